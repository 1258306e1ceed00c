//! Where the configuration comes from, so that it can be read again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use toml::Value;

use super::effective::Effective;
use super::layers::{self, Given};
use super::{Config, ConfigError, Settings, environment, files, profile};
use crate::logging;

/// The file and what overrides it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// What the command line says.
    pub typed: Vec<Given>,
    /// The environment; only what is the agent's is looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// This host's name.
    pub host_name: String,
    /// CPUs that this process may use.
    pub cpus: usize,
}

/// A configuration without an error.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the agent.
    pub config: Config,
    /// For people.
    pub effective: Effective,
    /// By key.
    given: BTreeMap<String, Given>,
}

impl Source {
    /// This process's environment and host.
    pub fn here(file: Option<PathBuf>, typed: Vec<Given>) -> Self {
        let environment = std::env::vars_os().collect();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { file, typed, environment, host_name: crate::host::host_name(), cpus }
    }

    /// Reads the file and checks everything.
    ///
    /// # Errors
    /// Everything that is wrong: the file cannot be read, or says what is not allowed.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        match &self.file {
            Some(path) => match layers::read(path) {
                Ok(text) => self.check(layers::parse(&text, &path.display().to_string())),
                Err(error) => self.check((Vec::new(), vec![error])),
            },
            None => self.check((Vec::new(), Vec::new())),
        }
    }

    /// The same with this text instead of what is in the file.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn load_text(&self, text: &str) -> Result<Loaded, ConfigError> {
        self.check(layers::parse(text, "text"))
    }

    fn check(
        &self,
        (from_file, mut problems): (Vec<Given>, Vec<ConfigError>),
    ) -> Result<Loaded, ConfigError> {
        let (mut from_environment, wrong) = environment::given(&self.environment);
        problems.extend(wrong);
        from_environment.extend(logging::from_rust_log(&self.environment).map(|level| Given {
            key: "log.level".into(),
            value: Value::String(level),
            place: "environment variable RUST_LOG".into(),
            origin: "environment variable RUST_LOG".into(),
        }));
        let mut given = BTreeMap::new();
        let layers = from_file.into_iter().chain(from_environment).chain(self.typed.clone());
        for value in layers {
            given.insert(value.key.clone(), value);
        }
        match chosen(&given) {
            Ok(name) => {
                for value in profile::given(&name) {
                    given.entry(value.key.clone()).or_insert(value);
                }
            }
            Err(error) => {
                given.remove("profile");
                problems.push(error);
            }
        }
        let (config, wrong) = settle(given.clone(), &self.host_name, self.cpus);
        problems.extend(wrong);
        match config {
            Some(config) if problems.is_empty() => {
                let effective = Effective::new(&given, &self.host_name, self.cpus);
                Ok(Loaded { config, effective, given })
            }
            _ => Err(ConfigError::all(problems)),
        }
    }
}

impl Loaded {
    /// Files that the configuration names and that cannot be read, which only this host knows.
    ///
    /// # Errors
    /// All of them.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let missing = files::unreadable(&self.given);
        if missing.is_empty() { Ok(()) } else { Err(ConfigError::all(missing)) }
    }
}

/// The name of the profile.
fn chosen(given: &BTreeMap<String, Given>) -> Result<String, ConfigError> {
    let Some(Given { value, place, .. }) = given.get("profile") else {
        return Ok("default".into());
    };
    let place = place.clone();
    let text = super::values::text(place.clone(), value.clone())?.value;
    if profile::NAMES.contains(&&*text) {
        return Ok(text);
    }
    let allowed = profile::NAMES.join(" or ");
    Err(ConfigError::Value { place, value: format!("{text:?}"), allowed })
}

/// The configuration without what is wrong, and everything that is wrong: what a check refuses
/// is left out, and the rest is checked again.
pub(super) fn settle(
    mut given: BTreeMap<String, Given>,
    host_name: &str,
    cpus: usize,
) -> (Option<Config>, Vec<ConfigError>) {
    let mut problems = Vec::new();
    let mut settings = Settings::default();
    given.retain(|_, given| match settings.take(given.clone()) {
        Ok(()) => true,
        Err(error) => {
            problems.push(error);
            false
        }
    });
    loop {
        let mut settings = Settings::default();
        for value in given.values() {
            // It was taken before.
            let _ = settings.take(value.clone());
        }
        let error = match settings.check(host_name, cpus) {
            Ok(config) => {
                problems.extend(files::contradictions(&config, &given));
                return (Some(config), problems);
            }
            Err(error) => error,
        };
        let wrong = given.values().find(|value| Some(&*value.place) == error.place());
        let wrong = wrong.map(|value| value.key.clone());
        problems.push(error);
        // Each time there is one less.
        let Some(wrong) = wrong else { return (None, problems) };
        for partners in PARTNERS.iter().filter(|partners| partners.contains(&&*wrong)) {
            given.retain(|key, _| !partners.contains(&&**key));
        }
        given.remove(&wrong);
    }
}

/// Keys of which one without the other is refused: that would be no news.
const PARTNERS: [&[&str]; 5] = [
    &["sampling.mode", "sampling.rate"],
    &["delivery.client_cert_file", "delivery.client_key_file"],
    &["batch.min_rows", "batch.max_rows"],
    &["spool.max_mib", "spool.segment_mib"],
    &["memory.shrink_above_percent", "memory.regrow_below_percent"],
];
