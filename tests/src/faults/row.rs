//! The rows of the fault table.

/// A row: what can go wrong, and what is right then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// The store is away or slow.
    StoreAway,
    /// The way to the store breaks in the midst of an insert.
    MidInsert,
    /// The store cannot take more.
    StoreFull,
    /// The store refuses a row.
    Refused,
    /// The store's tables are not as they were.
    Tables,
    /// Who answers is not the store.
    Impostor,
    /// The agent dies.
    Killed,
    /// The spool's disk.
    Spool,
    /// More flows than there is room for.
    Flood,
    /// What is metered changes.
    Interfaces,
    /// Time.
    Clock,
    /// Strange packets.
    Packets,
    /// Wrong configuration.
    Configuration,
    /// A second agent.
    TwoAgents,
    /// The host lacks something.
    Host,
    /// Hundreds of interfaces.
    ManyInterfaces,
    /// The embedded engine.
    Engine,
}

impl Row {
    /// Every row, in the order of the report.
    pub const ALL: [Self; 17] = [
        Self::StoreAway,
        Self::MidInsert,
        Self::StoreFull,
        Self::Refused,
        Self::Tables,
        Self::Impostor,
        Self::Killed,
        Self::Spool,
        Self::Flood,
        Self::Interfaces,
        Self::Clock,
        Self::Packets,
        Self::Configuration,
        Self::TwoAgents,
        Self::Host,
        Self::ManyInterfaces,
        Self::Engine,
    ];

    /// The fault.
    pub const fn title(self) -> &'static str {
        match self {
            Self::StoreAway => "ClickHouse down, slow, hung, restarting",
            Self::MidInsert => "Killed in mid-insert, answer lost, body cut",
            Self::StoreFull => "Server out of disk, too many parts, read-only",
            Self::Refused => "Server rejects a row",
            Self::Tables => "Table missing or changed",
            Self::Impostor => "TLS wrong; an answer that is not ClickHouse's",
            Self::Killed => "SIGKILL of the agent",
            Self::Spool => "Spool damaged, full or failing",
            Self::Flood => "Flood of random tuples",
            Self::Interfaces => "Interfaces and namespaces that come, go and change",
            Self::Clock => "Clock set back or forward, suspend",
            Self::Packets => "Malformed, fragmented and tagged packets",
            Self::Configuration => "Bad configuration",
            Self::TwoAgents => "Two agents on one interface",
            Self::Host => "Missing capability, BTF, memlock, kernel, bpffs",
            Self::ManyInterfaces => "300 interfaces",
            Self::Engine => "libchdb missing, wrong version, crashing",
        }
    }

    /// What is right then.
    pub const fn right(self) -> &'static str {
        match self {
            Self::StoreAway => "spool, pauses that grow, bounded memory, catches up",
            Self::MidInsert => "the same token, exactly the rows",
            Self::StoreFull => "tried again, then compared",
            Self::Refused => "found by halving, put into the quarantine, counted",
            Self::Tables => "held, told, goes on after the DDL",
            Self::Impostor => "nothing is acknowledged, everything is held, bounded reading",
            Self::Killed => "what was frozen is stored once, the gap is lost{crash}",
            Self::Spool => "skips what is damaged and counts it, always starts",
            Self::Flood => "all counted, every loss has a reason, known flows stay exact",
            Self::Interfaces => "last drain, attached again, counted under the right name",
            Self::Clock => "counts unaffected, times follow the clock",
            Self::Packets => "the same answer as an independent parser",
            Self::Configuration => "refused before anything is attached; file, line, key",
            Self::TwoAgents => "the second one ends and says why",
            Self::Host => "one line that says what and how, or goes on without",
            Self::ManyInterfaces => "attached in bounded time, exact on each",
            Self::Engine => "clear error; child started again; nothing lost",
        }
    }
}
