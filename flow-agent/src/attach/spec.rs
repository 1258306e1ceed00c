//! What was asked for: interfaces by name or glob, in namespaces, and exclusions.

use std::str::FromStr;

use super::namespace::named;
use super::{AttachError, AttachMode, NetworkNamespace};

/// The namespaces that a specification means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceSpec {
    /// This one, whether it exists or not.
    One(NetworkNamespace),
    /// All under `/run/netns` whose name matches.
    Glob(String),
}

impl NamespaceSpec {
    /// The namespaces now.
    pub fn expand(&self) -> Vec<NetworkNamespace> {
        match self {
            Self::One(namespace) => vec![namespace.clone()],
            Self::Glob(pattern) => named()
                .into_iter()
                .filter(|name| glob_matches(pattern, name))
                .map(NetworkNamespace::Named)
                .collect(),
        }
    }
}

/// Interfaces as they are asked for: `[NETNS/]NAME[:MODE]`, where NETNS is a name of
/// `ip netns` or `pid:NUMBER`, and the names may be globs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Where to look.
    pub namespace: NamespaceSpec,
    /// Name or glob (`*`, `?`).
    pub name: String,
    /// Overrides the general mode.
    pub mode: Option<AttachMode>,
}

impl InterfaceSpec {
    /// True when it means one interface, which must be there at start.
    pub fn is_exact(&self) -> bool {
        matches!(self.namespace, NamespaceSpec::One(_)) && !is_glob(&self.name)
    }

    /// True if no other network namespace has to be joined for it.
    pub fn is_in_own_namespace(&self) -> bool {
        self.namespace == NamespaceSpec::One(NetworkNamespace::Own)
    }

    /// True for an interface of this name in one of its namespaces.
    pub fn matches(&self, name: &str) -> bool {
        glob_matches(&self.name, name)
    }

    /// A specification of interfaces to leave out, which has no mode.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn exclusion(text: &str) -> Result<Self, AttachError> {
        let spec: Self = text.parse()?;
        match spec.mode {
            None => Ok(spec),
            Some(_) => Err(AttachError::BadSpec {
                spec: text.into(),
                problem: "what is left out is not attached".into(),
            }),
        }
    }
}

impl FromStr for InterfaceSpec {
    type Err = AttachError;

    fn from_str(spec: &str) -> Result<Self, AttachError> {
        let bad =
            |problem: &str| AttachError::BadSpec { spec: spec.into(), problem: problem.into() };
        let (namespace, rest) = match spec.split_once('/') {
            Some(("", _)) => return Err(bad("the namespace is empty")),
            Some((text, rest)) => {
                let namespace = match text.strip_prefix("pid:") {
                    Some(pid) => NamespaceSpec::One(NetworkNamespace::Pid(
                        pid.parse().map_err(|_| bad(&format!("'{pid}' is no process id")))?,
                    )),
                    None if is_glob(text) => NamespaceSpec::Glob(text.into()),
                    None if matches!(text, "." | "..") => return Err(bad("no such namespace")),
                    None => NamespaceSpec::One(NetworkNamespace::Named(text.into())),
                };
                (namespace, rest)
            }
            None => (NamespaceSpec::One(NetworkNamespace::Own), spec),
        };
        let (name, mode) = match rest.split_once(':') {
            Some((name, mode)) => {
                let mode = clap::ValueEnum::from_str(mode, false)
                    .map_err(|_| bad(&format!("'{mode}' is no way to attach")))?;
                (name, Some(mode))
            }
            None => (rest, None),
        };
        if name.is_empty() || name.contains('/') {
            return Err(bad("the interface name is empty or has a slash"));
        }
        Ok(Self { namespace, name: name.into(), mode })
    }
}

/// Everything that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What to meter; nothing: all hardware interfaces of the agent's own namespace.
    pub include: Vec<InterfaceSpec>,
    /// What to leave out, whatever `include` says.
    pub exclude: Vec<InterfaceSpec>,
    /// How incoming packets are metered where the specification does not say.
    pub mode: AttachMode,
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// `*` is any run of characters, `?` is any one.
fn glob_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and what it has taken so far.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_name_namespace_interface_and_mode() {
        let spec = |text: &str| text.parse::<InterfaceSpec>().expect("valid");
        let one = |namespace| NamespaceSpec::One(namespace);
        let blue = spec("blue/veth*:xdp-generic");
        assert_eq!(blue.namespace, one(NetworkNamespace::Named("blue".into())));
        assert_eq!((&*blue.name, blue.mode), ("veth*", Some(AttachMode::XdpGeneric)));
        let own = spec("eth0");
        assert_eq!((own.namespace, own.mode), (one(NetworkNamespace::Own), None));
        let pid = spec("pid:12/eth0:tc");
        assert_eq!(pid.namespace, one(NetworkNamespace::Pid(12)));
        assert_eq!(spec("bl*/eth0").namespace, NamespaceSpec::Glob("bl*".into()));
    }

    #[test]
    fn only_a_name_in_one_namespace_is_exact() {
        for (text, exact) in
            [("eth0", true), ("pid:1/eth0", true), ("eth*", false), ("b?/eth0", false)]
        {
            assert_eq!(text.parse::<InterfaceSpec>().expect(text).is_exact(), exact, "{text}");
        }
    }

    #[test]
    fn bad_specs_say_what_is_allowed() {
        for spec in ["", "/eth0", "eth0:", "eth0:fast", "a/b/c", "blue/", "pid:x/eth0", "../eth0"] {
            let error = spec.parse::<InterfaceSpec>().expect_err(spec).to_string();
            assert!(error.contains("auto|xdp|xdp-generic|tc"), "{error}");
        }
        InterfaceSpec::exclusion("eth0:tc").expect_err("a mode");
    }

    #[test]
    fn globs() {
        for (pattern, name, matches) in [
            ("eth0", "eth0", true),
            ("eth*", "eth0", true),
            ("*", "", true),
            ("e?h0", "eth0", true),
            ("eth?", "eth10", false),
            ("*0", "eth10", true),
            ("veth", "veth1", false),
            ("*a*b", "xaab", true),
            ("*a*b*", "xbxa", false),
            ("?", "", false),
        ] {
            assert_eq!(glob_matches(pattern, name), matches, "{pattern} {name}");
        }
    }
}
