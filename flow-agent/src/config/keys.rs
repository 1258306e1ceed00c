//! Every key of the configuration: the one table that the parser, `config print`, the JSON
//! Schema, the reference in docs/configuration.md and the hints for unknown keys are made of.
//!
//! It must hold that what is allowed here is what the checks of the sections allow; a test asks
//! them at both ends of every range.

mod analytics;
mod enrich;
mod flows;
mod store;
mod top;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Switch,
    /// A whole number in this range, ends included.
    Whole {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text; what it may say is in [`Key::allowed`].
    Text,
    /// A list of texts.
    Texts,
    /// A text, or a list of texts.
    TextOrTexts,
    /// A list of whole numbers and texts.
    Numbers,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// With its section: `cache.max_flows`. `services.*` is any name in that section.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What the number counts; empty for what is no number.
    pub unit: &'static str,
    /// The default as TOML; none if it depends on the host or is nothing.
    pub default: Option<&'static str>,
    /// Then, in words, what it is.
    pub otherwise: &'static str,
    /// A value as TOML, to show how it is written where there is no default.
    pub example: &'static str,
    /// In words what is allowed, where the kind does not say it.
    pub allowed: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Followed while the agent runs; else it needs a restart.
    pub live: bool,
}

impl Key {
    const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        doc: &'static str,
    ) -> Self {
        let (otherwise, example) = ("none", "");
        Self { name, kind, unit: "", default, otherwise, example, allowed: "", doc, live: false }
    }

    const fn switch(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self::new(name, Kind::Switch, Some(default), doc)
    }

    const fn whole(
        name: &'static str,
        unit: &'static str,
        default: &'static str,
        (least, most): (i64, i64),
        doc: &'static str,
    ) -> Self {
        Self { unit, ..Self::new(name, Kind::Whole { least, most }, Some(default), doc) }
    }

    const fn word(
        name: &'static str,
        words: &'static [&'static str],
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self::new(name, Kind::Word(words), Some(default), doc)
    }

    const fn text(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self::new(name, Kind::Text, Some(default), doc)
    }

    const fn texts(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self::new(name, Kind::Texts, Some(default), doc)
    }

    /// Has no fixed default, but `otherwise`; `example` shows a value.
    const fn without_default(self, otherwise: &'static str, example: &'static str) -> Self {
        Self { default: None, otherwise, example, ..self }
    }

    /// Its default says little: `example` shows a value.
    const fn shown(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    const fn allowing(self, allowed: &'static str) -> Self {
        Self { allowed, ..self }
    }

    const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// The section; empty for keys above the sections.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within its section.
    pub fn short(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }

    /// In words what is allowed.
    pub fn range(&self) -> String {
        match self.kind {
            Kind::Switch => "true, false".into(),
            Kind::Word(words) => words.join(", "),
            Kind::Whole { least, most } => match self.unit {
                "" => format!("{least} to {most}"),
                unit => format!("{least} to {most} {unit}"),
            },
            _ => self.allowed.into(),
        }
    }
}

/// A section and what it is for, in the order in which they are printed.
pub const SECTIONS: [(&str, &str); 15] = [
    ("filter", "What is metered; default: everything. See \"Filters\"."),
    ("sampling", "Meter 1 in so many; default: all packets. See \"Filters\"."),
    ("log", "What the agent says of itself on its standard error. See \"Logs\"."),
    ("run", "What the running agent may do. See \"Privileges\"."),
    ("status", "Status, metrics and questions over HTTP (status.md)."),
    ("cache", "The flow cache. See \"The cache\"."),
    ("memory", "When the cache is made smaller for lack of memory. See \"Memory\"."),
    ("batch", "When a batch of rows is frozen and inserted. See \"Batches\"."),
    ("delivery", "How the servers of the store are reached. See \"Servers of the store\"."),
    ("spool", "Where batches wait for the store. See \"The spool\"."),
    ("state", "What is kept over restarts. See \"Restarts\"."),
    ("analytics", "What is said of devices, listeners, scanners, floods, change (analytics.md)."),
    ("enrich", "What is looked up beside the packets (enrichment.md)."),
    ("services", "Names of your own for ports, before the built-in ones."),
    ("retention", "How long rows are kept. Without any of these keys tables stay as they are."),
];

/// Every key: those above the sections first, then section by section.
pub fn all() -> impl Iterator<Item = &'static Key> {
    let sections = SECTIONS.iter().map(|(section, _)| *section);
    std::iter::once("").chain(sections).flat_map(in_section)
}

/// The keys of a section; of "" those above the sections.
pub fn in_section(section: &str) -> impl Iterator<Item = &'static Key> {
    let parts = [top::KEYS, flows::KEYS, store::KEYS, analytics::KEYS, enrich::KEYS];
    parts.into_iter().flatten().filter(move |key| key.section() == section)
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    let name = if name.starts_with("services.") { "services.*" } else { name };
    all().find(|key| key.name == name)
}

/// True for the name of a section.
pub fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| *section == name)
}

/// The known name that is nearest to an unknown one, if one is near.
pub fn nearest(unknown: &str) -> Option<String> {
    let (section, short) = unknown.split_once('.').unwrap_or(("", unknown));
    // Written above or below the line of the section.
    if let Some(key) = all().find(|key| key.short() == short && key.section() != section) {
        return Some(key.name.into());
    }
    let best = |candidates: &mut dyn Iterator<Item = (f64, String)>| {
        candidates.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.55)
    };
    let keys = || all().filter(|key| key.short() != "*");
    let here = keys().filter(|key| key.section() == section);
    let mut here = here.map(|key| (likeness(short, key.short()), key.name.to_owned()));
    if !section.is_empty() && is_section(section) {
        return best(&mut here).map(|(_, name)| name);
    }
    let mut sections = SECTIONS.iter().filter(|_| section.is_empty()).map(|(name, _)| {
        let short = name.trim_end_matches('s');
        (likeness(unknown, name).max(likeness(unknown, short)), format!("[{name}]"))
    });
    // Elsewhere it has to be more alike: short names are many.
    let mut elsewhere = keys().map(|key| {
        let whole = likeness(unknown, key.name);
        (whole.max(likeness(short, key.short()) - 0.15), key.name.to_owned())
    });
    let found = [best(&mut here), best(&mut sections), best(&mut elsewhere)];
    found.into_iter().flatten().max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

/// From 0 to 1; what is a beginning of the other is like it.
fn likeness(unknown: &str, known: &str) -> f64 {
    let begins = unknown.len() > 2 && known.len() > 2;
    let begins = begins && (known.starts_with(unknown) || unknown.starts_with(known));
    let alike = strsim::normalized_damerau_levenshtein(unknown, known);
    if begins { alike.max(0.6) } else { alike }
}
