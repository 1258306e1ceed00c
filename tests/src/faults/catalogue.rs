//! Every fault by its name: the row that it belongs to, and how it is injected.

use super::row::Row;

/// A fault of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Its name in records and tests.
    pub name: &'static str,
    /// The row that it belongs to.
    pub row: Row,
    /// How it is injected.
    pub injection: &'static str,
}

macro_rules! faults {
    ($($row:ident { $($name:literal = $injection:literal,)+ })+) => {
        &[$($(Named { name: $name, row: Row::$row, injection: $injection },)+)+]
    };
}

/// All of them.
pub const CATALOGUE: &[Named] = faults! {
    StoreAway {
        "store_down" = "the store's port is closed under traffic, then opened",
        "store_slow" = "a proxy passes 50 kB/s",
        "store_hangs" = "inserts are read, half or wholly, and never answered, or too late",
        "store_restarts" = "the engine is killed and started again, six times under traffic",
        "store_away_at_start" = "the agent starts before its store",
        "store_away_at_stop" = "the agent is stopped while its store is away; the next one delivers",
        "store_hung_at_stop" = "the engine is stopped by SIGSTOP while the agent ends",
        "store_away_too_long" = "the store is away until a spool of 1 MiB in memory is full",
        "store_away_under_load" = "the port is closed while new flows come by the 100,000 a second",
        "chance_at_every_request" = "every third request of any kind is reset, cut, slowed or unanswered",
    }
    MidInsert {
        "store_killed_in_mid_insert" = "the engine gets SIGKILL while inserts are open",
        "connection_reset" = "reset before the request",
        "insert_cut" = "requests cut at 15 octets from the first to the last",
        "answer_cut" = "answers cut at 15 octets after the commit",
        "reply_lost" = "reset after the commit",
        "many_replies_lost" = "every batch is committed and its first reply dropped",
        "parts_lost_tokens_kept" = "the engine dies and forgets the parts of all tables, not their tokens",
        "table_part_lost" = "the engine dies and forgets the part of the table alone",
        "rollup_part_lost" = "the engine dies and forgets the part of a rollup alone",
        "everything_lost" = "the engine dies and forgets parts and tokens",
        "token_without_rows" = "the engine is killed between token and rows, four ways",
        "random_kills_and_outages" = "agent, store or both killed at random amid random faults",
    }
    StoreFull {
        "store_out_of_disk" = "the disk under the engine is filled",
        "too_many_parts" = "merges are stopped and one part is allowed",
        "store_read_only" = "`table_readonly = 1`",
        "errors_that_pass" = "codes 252, 241, 202, 159, 242, 243 instead of and after the insert",
        "errors_of_a_gateway" = "status 500 to 504, 404, 429 instead of and after the insert",
    }
    Refused {
        "row_refused" = "a CHECK constraint refuses one row at each end, then is dropped",
        "halved_and_welcome_again" = "the agent gets SIGKILL while it halves a refused batch, and the constraint is gone before the next one",
    }
    Tables {
        "table_detached" = "`DETACH TABLE`",
        "table_renamed" = "`RENAME TABLE` and back",
        "table_changed" = "`RENAME COLUMN` and back",
        "other_table_missing" = "`flow.latency` is renamed; batches of flows must not wait for it",
    }
    Impostor {
        "tls_unknown_authority" = "the store's certificate is signed by a stranger",
        "tls_other_name" = "the store's certificate is of another host",
        "tls_expired" = "the store's certificate ended in 2001",
        "tls_downgraded" = "the server greets with TLS 1.0",
        "tls_missing" = "a plain port where TLS is asked for",
        "page_for_an_answer" = "a page, a bare 200, a 204, a redirect and noise for acknowledgements",
        "huge_error_body" = "bodies of 100 MB with and without ClickHouse's marks",
    }
    Killed {
        "agent_killed_in_an_outage" = "SIGKILL with everything frozen and the store away",
        "agent_killed_in_mid_insert" = "SIGKILL with inserts half sent, committed, unanswered",
        "agent_killed_with_full_tables" = "SIGKILL before the first drain; pinned tables are taken over",
        "agent_killed_at_random" = "SIGKILL at random moments, again and again, with flows in every stage",
        "killed_while_agents_change" = "the old agent, the new one or both are killed at seven steps of a take-over",
        "heirs_killed" = "those who take over from a killed agent are killed meanwhile, and at their stop",
    }
    Spool {
        "spool_bit_flipped" = "a bit in each KiB of a segment of a killed agent's spool is flipped",
        "spool_truncated" = "a segment of a killed agent's spool is cut in the midst of a record",
        "spool_duplicated" = "a segment is copied under another number",
        "spool_reordered" = "two segments change their names",
        "spool_heads_lost" = "the first 12 KiB of a segment are zeros",
        "spool_indices_lost" = "all index files are removed",
        "spool_disk_full" = "the disk under the spool is filled while the store is away",
        "spool_disk_full_for_long" = "the same until the memory is full as well",
        "spool_disk_fails" = "ext2 on a loop device whose own disk is full: what the page cache took cannot be written, syncs fail",
        "spool_folder_removed" = "the spool's folder is removed under the running agent",
    }
    Flood {
        "flood_by_xdp" = "random tuples by live XDP frames, metered by XDP",
        "flood_by_tc" = "random tuples by live XDP frames, metered by TC",
        "flood_into_small_tables" = "the same into tables of 4 MiB that are drained every 5 s",
        "syn_flood" = "a million SYNs from random addresses and ports, by a raw socket",
    }
    Interfaces {
        "interface_removed_and_made_again" = "the same name and index at once",
        "interface_renamed" = "`ip link set name`, in and out of the selection",
        "interface_moved" = "`ip link set netns` under traffic before",
        "namespace_deleted" = "a namespace with two metered interfaces is deleted, twice",
        "link_flaps" = "`ip link set down` and `up`, 20 times, traffic after each",
        "mtu_raised" = "`ip link set mtu 9000` on both ends, then large datagrams",
    }
    Clock {
        "clock_set_forward" = "the agent's CLOCK_REALTIME goes forward by an hour (libfaketime)",
        "clock_set_back" = "the agent's CLOCK_REALTIME goes back by an hour (libfaketime)",
        "agent_stands_still" = "SIGSTOP for two seconds under traffic, as a suspend of its process",
    }
    Packets {
        "strange_packets" = "generated, bent, cut at each offset, noise; by test runs of the programs",
        "fragments" = "datagrams of several fragments between real sockets",
        "vlan_tags" = "tagged and doubly tagged frames",
    }
    Configuration {
        "hundred_bad_files" = "a hundred files that are wrong in one thing each",
        "bad_file_at_a_hangup" = "a wrong file while the agent runs",
    }
    TwoAgents {
        "second_agent" = "a second agent at an interface of the first, by XDP and TC",
    }
    Host {
        "no_capability" = "root by number alone",
        "no_cap_bpf" = "CAP_BPF and CAP_SYS_ADMIN taken from the bounding set",
        "no_cap_net_admin" = "CAP_NET_ADMIN and CAP_SYS_ADMIN taken from the bounding set",
        "no_cap_perfmon" = "CAP_PERFMON and CAP_SYS_ADMIN taken from the bounding set",
        "no_btf" = "an empty folder over /sys/kernel/btf in a mount namespace",
        "no_memlock" = "RLIMIT_MEMLOCK of 0: newer kernels account maps by cgroup, so it must not matter",
        "no_bpffs" = "an empty folder over /sys/fs/bpf in a mount namespace",
    }
    ManyInterfaces {
        "many_interfaces" = "pairs of interfaces in two namespaces, all metered, after a killed agent's expediting",
    }
    Engine {
        "libchdb_missing" = "FLOW_LIBCHDB names nothing",
        "libchdb_other_version" = "a library that says 25.1.0",
        "libchdb_crashes" = "a library whose functions abort",
        "engine_killed" = "the embedded engine gets SIGKILL, cannot start for a while, then can",
    }
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Text of all test programs.
    fn tests() -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = list(&folder).map(|file| file.path());
        let files = files.flat_map(|path| {
            let inside: Vec<_> = list(&path).map(|file| file.path()).collect();
            inside.into_iter().chain([path])
        });
        files.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    }

    #[test]
    fn every_row_has_faults_and_every_fault_is_recorded_by_a_test() {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|named| named.name).collect();
        assert_eq!(names.len(), CATALOGUE.len(), "a name is there twice");
        assert!(names.len() >= 60, "{} faults", names.len());
        for row in Row::ALL {
            assert!(CATALOGUE.iter().any(|named| named.row == row), "{row:?} has no fault");
        }
        let tests = tests();
        for name in names {
            assert!(tests.contains(&format!("\"{name}\"")), "no test records {name}");
        }
    }
}
