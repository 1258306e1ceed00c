//! Why a packet was not metered or was lost: the labels of the ledger.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every reason, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label used in the ledger, in metrics and in documents.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

reasons! {
    /// Why a packet that was seen has no flow: it is not IP, cannot be read,
    /// or is left out by the configuration.
    NotMetered {
        /// Ethertype 0x0806.
        Arp = "arp",
        /// Ethertype 0x88cc.
        Lldp = "lldp",
        /// Any other payload that is not IP.
        Other = "other",
        /// The link or IP header is not wholly captured.
        Truncated = "truncated",
        /// IP version, header length or total length contradict each other.
        Malformed = "malformed",
        /// More than four VLAN tags or eight MPLS labels.
        Unsupported = "unsupported",
        /// Left out by a prefix, port or protocol of the configuration.
        Filtered = "filtered",
        /// Not in the sample.
        NotSampled = "not_sampled",
        /// Of the agent's own connections to its store.
        OwnTraffic = "own_traffic",
    }
}

reasons! {
    /// Why a packet that should have been metered has no flow record.
    Lost {
        /// Its flow was evicted from a full set while the list of evicted flows was full.
        RingFull = "ring_full",
        /// It came on a CPU that has no table (hot-plugged after start).
        NoRegion = "no_region",
        /// It came on an interface that the agent did not configure.
        NoInterface = "no_interface",
        /// It was in a generation that an agent was draining when it was killed.
        Crash = "crash",
    }
}
