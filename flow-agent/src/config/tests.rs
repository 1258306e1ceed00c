//! What a file and a command line together say.

use super::*;
use crate::cache::{Policy, StatsLevel};

fn check(text: &str) -> Result<Config, String> {
    let settings = Settings::parse(text, "agent.toml").map_err(|error| error.to_string())?;
    settings.check("host", 2).map_err(|error| error.to_string())
}

/// A file, an option and variables together.
fn load(text: &str, typed: Option<Given>, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).expect("ours");
    let source = Source {
        file: Some(path),
        typed: typed.into_iter().collect(),
        environment: variables.iter().map(|(a, b)| (a.into(), b.into())).collect(),
        host_name: "host".into(),
        cpus: 2,
    };
    source.load().map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    let config = check("").expect("valid");
    assert_eq!(config.exporter, "host");
    assert_eq!(config.cache.limits.timeouts, Timeouts::default());
    assert_eq!(config.batch, BatchLimits::default());
    assert_eq!(config.shards, 2);
    assert_eq!(config.status, StatusListen::Default);
    assert_eq!(config.memory, Some(PressureLimits::default()));
    assert_eq!(config.store, StoreTarget::Embedded("/var/lib/flow-agent/store".into()));
}

#[test]
fn the_section_run_is_checked() {
    for (value, choice) in [
        ("auto", CapabilityChoice::Auto),
        ("drop", CapabilityChoice::Drop),
        ("keep", CapabilityChoice::Keep),
    ] {
        let text = format!("[run]\ncapabilities = '{value}'");
        assert_eq!(check(&text).expect("valid").capabilities, choice);
    }
    assert_eq!(check("").expect("valid").capabilities, CapabilityChoice::Auto);
    let error = check("[run]\ncapabilities = 'no'").expect_err("unknown");
    let words = "line 2: run.capabilities is \"no\"; it must be \"auto\", \"drop\" or \"keep\"";
    assert!(error.contains(words), "{error}");
}

#[test]
fn the_section_spool_is_checked_and_the_command_line_comes_first() {
    use crate::spool::{Fsync, Full, SpoolSettings};
    assert_eq!(check("").expect("valid").spool, SpoolSettings::default());
    let text = "[spool]\ndir = '/a'\nmax_mib = 2\nsegment_mib = 1\nmemory_mib = 3\n\
                full = 'block'\nfsync = 'always'";
    let settings = SpoolSettings {
        dir: Some("/a".into()),
        max_octets: 2 << 20,
        memory_octets: 3 << 20,
        full: Full::Block,
        fsync: Fsync::Always,
        segment_octets: 1 << 20,
    };
    assert_eq!(check(text).expect("valid").spool, settings);
    let dir = Given::typed("--spool-dir", "spool.dir", Some(""));
    let spool = load(text, dir, &[]).expect("valid").config.spool;
    assert_eq!(spool, SpoolSettings { dir: None, ..settings });
}

#[test]
fn the_section_cache_overrides_and_completes_what_is_said_above() {
    let config = check(
        "max_flows = 5\nidle_timeout_s = 7\n[cache]\nmax_flows = 6\npolicy = 'ttl'\n\
         max_memory_mib = 64\nstatistics = 'full'\nenabled = false\nhot_flows = 3\n\
         linger_s = 0\nttl_s = 9\nudp_idle_timeout_s = 3\ntcp_closing_active_timeout_s = 4",
    );
    let CacheChoice { limits, level, hot_flows } = config.expect("valid").cache;
    assert_eq!((limits.max_flows, limits.policy), (6, Policy::Ttl));
    assert_eq!((limits.max_memory, limits.enabled), (Some(64 << 20), false));
    assert_eq!((level, hot_flows), (StatsLevel::Full, 3));
    assert_eq!(limits.ttl(), Some(Duration::from_secs(9)));
    let seconds = |values: [u64; 6]| values.map(|ns| ns / 1_000_000_000);
    assert_eq!(seconds(limits.timeouts.idle_ns()), [7, 7, 3, 7, 7, 0]);
    assert_eq!(seconds(limits.timeouts.active_ns())[..5], [60, 4, 60, 60, 60]);
}

#[test]
fn a_typed_value_is_named_by_its_option() {
    for value in [-5, 9, 60_001] {
        let typed = Given::typed("--drain-interval", "drain_interval_ms", Some(value));
        let error = load("", typed, &[]).expect_err("refused");
        let words = format!("--drain-interval is {value}; it must be 10 to 60000");
        assert_eq!(error, words);
    }
}

#[test]
fn bad_files_are_refused_by_file_line_and_key() {
    for (text, line, words) in [
        ("drain_interval_ms = 1", 1, "drain_interval_ms is 1; it must be 10 to 60000"),
        ("\ndrain_interval_ms = 60001", 2, "drain_interval_ms is 60001"),
        ("drain_interval_ms = -1", 1, "drain_interval_ms is -1; it must be 10 to 60000"),
        ("drain_interval_ms = 1.5", 1, "a number with a fraction; it must be a whole number"),
        ("drain_interval_ms = '1s'", 1, "is a text; it must be a whole number"),
        ("drain_interval_ms = true", 1, "is true or false; it must be a whole number"),
        ("drain_interval_ms = [1]", 1, "is a list; it must be a whole number"),
        ("drain_interval_ms = 99999999999999999999", 1, "the number is too large"),
        ("table_memory_mib = 0", 1, "table_memory_mib is 0; it must be 1 to 65536"),
        ("table_memory_mib = 65537", 1, "table_memory_mib is 65537"),
        ("shards = 0", 1, "shards is 0; it must be 1 to 1024"),
        ("shards = -3", 1, "shards is -3"),
        ("max_flows = 0", 1, "max_flows is 0"),
        ("max_flows = 2000000000", 1, "max_flows is 2000000000"),
        ("idle_timeout_s = 0", 1, "idle_timeout_s is 0"),
        ("# \n\nidle_timeout_s = 86401", 3, "idle_timeout_s is 86401"),
        ("active_timeout_s = 0", 1, "active_timeout_s is 0"),
        ("batch_rows = 2000000", 1, "batch_rows is no key"),
        ("[batch]\nmax_rows = 2000000", 2, "batch.max_rows is 2000000; it must be 1 to 1048448"),
        ("[batch]\nmin_rows = 0", 2, "batch.min_rows is 0; it must be 1 to 1048448"),
        ("[batch]\nmin_rows = 7\nmax_rows = 6", 3, "max_rows is 6; it must be 7 to 1048448"),
        ("[batch]\nage_ms = 9", 2, "batch.age_ms is 9; it must be 10 to 60000"),
        ("[batch]\nage_ms = '1s'", 2, "batch.age_ms is a text; it must be a whole number"),
        ("[batch]\ntarget_insert_ms = 0", 2, "target_insert_ms is 0; it must be 1 to 60000"),
        ("[batch]\nrows = 1", 2, "batch.rows is no key"),
        ("idle_timeout = 3", 1, "idle_timeout is no key; did you mean idle_timeout_s?"),
        ("[daemon]\nshards = 1", 1, "daemon is no key"),
        ("attach = 'fast'", 1, "attach is \"fast\"; it must be auto, xdp, xdp-generic or tc"),
        ("attach = 1", 1, "attach is a whole number; it must be a text: \"...\""),
        ("store = 'ftp://x'", 1, "store: store 'ftp://x'"),
        ("store = 'clickhouse:127.0.0.1:8123'", 1, "http://HOST[:PORT][/DATABASE], https://"),
        ("store = 'embedded:'", 1, "the folder is missing"),
        ("interfaces = 'eth0'", 1, "is a text; it must be a list of texts: [\"eth0\"]"),
        ("interfaces = ['eth0', 1]", 1, "it must be a list of texts"),
        ("\ninterfaces = ['eth0:quick']", 2, "'quick' is no way to attach"),
        ("exclude_interfaces = ['lo:tc']", 1, "exclude_interfaces: interface 'lo:tc'"),
        ("interfaces = ['']", 1, "interfaces: interface ''"),
        ("exporter = ''", 1, "exporter is \"\"; it must be a name"),
        ("exporter = \"a\\nb\"", 1, "exporter is \"a\\nb\"; it must be a name"),
        ("exporter = 1979-05-27", 1, "exporter is a date; it must be a text"),
        ("shards = 1\nshards = 2", 2, "duplicate key"),
        ("exclude_own_traffic = 'no'", 1, "is a text; it must be true or false"),
        ("filter = 1", 1, "filter is a whole number; it must be a section"),
        ("[filter]\ninlude = []", 2, "filter.inlude is no key; did you mean include?"),
        ("[cache]\nmax_flow = 1", 2, "cache.max_flow is no key; did you mean max_flows?"),
        ("[cache]\nmax_flows = 0", 2, "cache.max_flows is 0; it must be 1 to 1073741824"),
        ("[cache]\nmax_memory_mib = 1", 2, "max_memory_mib is 1; it must be 2 to 1048576"),
        ("[cache]\npolicy = 'mru'", 2, "policy is \"mru\"; it must be lru or fifo or ttl"),
        ("[cache]\npolicy = 1", 2, "cache.policy is a whole number; it must be a text"),
        ("[cache]\nstatistics = 'all'", 2, "it must be off or counters or full"),
        ("[cache]\nenabled = 1", 2, "cache.enabled is a whole number; it must be true or"),
        ("[cache]\n\nudp_idle_timeout_s = 0", 3, "udp_idle_timeout_s is 0; it must be 1 to"),
        ("[cache]\nttl_s = 86401", 2, "cache.ttl_s is 86401; it must be 1 to 86400"),
        ("[cache]\nhot_flows = 0", 2, "cache.hot_flows is 0; it must be 1 to 256"),
        ("[filter]\n\ninclude = ['ten']", 3, "filter.include: \"ten\" is no prefix"),
        ("[filter]\ninclude = [10]", 2, "filter.include is a list of other values"),
        ("[filter]\nexclude = ['10.0.0.1/8']", 2, "write \"10.0.0.0/8\""),
        (
            "[filter]\ninclude = ['10.0.0.0/8']\nexclude = ['::ffff:10.0.0.0/104']",
            3,
            "\"::ffff:10.0.0.0/104\" is included, too",
        ),
        ("[filter]\nexclude_ports = [70000]", 2, "\"70000\" is no port"),
        ("[filter]\ninclude_ports = [1.5]", 2, "a list of numbers or texts"),
        ("[filter]\ninclude_protocols = ['tpc']", 2, "\"tpc\" is no protocol"),
        ("[filter]\nexclude_protocols = [-1]", 2, "\"-1\" is no protocol"),
        ("[sampling]\nmode = 'flow'", 2, "sampling.mode: sampling needs a rate, too"),
        ("[sampling]\nrate = 10", 2, "sampling.rate: sampling needs a mode, too"),
        ("[sampling]\nrate = 0\nmode = 'flow'", 2, "rate is 0; it must be 1 to 1048576"),
        ("[sampling]\nrate = 1\nmode = 'all'", 3, "mode is \"all\"; it must be flow or packet"),
        ("[analytics]\nscan_ports = 4", 2, "scan_ports is 4; it must be 5 to 65535"),
        ("[analytics]\nscans = 1", 2, "analytics.scans is a whole number; it must be true"),
        ("[analytics]\nscan = true", 2, "scan is no key; did you mean scans?"),
        ("[analytics]\nlocal_networks = ['x']", 2, "\"x\" is no prefix"),
        ("[analytics]\ncool_down_s = '1'", 2, "it must be a whole number"),
        ("[sampling]\nevery = 2", 2, "sampling.every is no key; the keys are mode, rate"),
        ("[spool]\ndir = 'spool'", 2, "spool.dir is \"spool\"; it must be an absolute path, or"),
        ("[spool]\nmax_mib = 31", 2, "spool.max_mib is 31; it must be 32 to 16777216"),
        ("[spool]\nsegment_mib = 0", 2, "spool.segment_mib is 0; it must be 1 to 1024"),
        ("[spool]\n\nmemory_mib = 0", 3, "spool.memory_mib is 0; it must be 1 to 65536"),
        ("[spool]\nfull = 'drop'", 2, "must be block or drop_oldest or drop_newest"),
        ("[spool]\nfsync = true", 2, "spool.fsync is true or false; it must be a text"),
        ("[spool]\nfsync = 'often'", 2, "\"often\"; it must be always or interval or never"),
        ("[spool]\nmax = 1", 2, "spool.max is no key; did you mean max_mib?"),
        ("[status]\nlisten = 'localhost:9469'", 2, "it must be IP:PORT on this host"),
        ("[status]\nlisten = '0.0.0.0:9469'", 2, "the status is for this host alone"),
        ("[memory]\nfloor_flows = 0", 2, "memory.floor_flows is 0; it must be 1 to"),
        ("[memory]\nshrink_above_percent = 101", 2, "it must be 2 to 100"),
        ("[memory]\nregrow_below_percent = 95", 2, "memory.regrow_below_percent is 95; it must"),
        ("[memory]\nstall_percent = 0", 2, "memory.stall_percent is 0; it must be 1 to 100"),
        ("[memory]\nenabled = 1", 2, "it must be true or false"),
        ("shards", 1, ""),
        ("shards = 1\n=", 2, ""),
    ] {
        let error = check(text).expect_err(text);
        assert!(error.contains(&format!("agent.toml, line {line}: ")), "{text}: {error}");
        assert!(error.contains(words), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{text}: {error}");
    }
}
