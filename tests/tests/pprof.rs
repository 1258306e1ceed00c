//! Profiles of the running agent, read by a decoder that is not the agent's. Needs root, the
//! agent's binary and libchdb.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent_with;
use flow_tests::raw_http;
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::traffic::{self, Ends};
use prost::Message;

/// As far as it is read here; the numbers are those of pprof's `profile.proto`.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

/// The names of the functions of each sample, the innermost first.
fn stacks(profile: &Profile) -> Result<Vec<Vec<&str>>> {
    let text = |index: i64| -> Result<&str> {
        Ok(profile.string_table.get(usize::try_from(index)?).context("a text is missing")?)
    };
    let functions: BTreeMap<_, _> =
        profile.function.iter().map(|function| (function.id, function.name)).collect();
    let locations: BTreeMap<_, _> =
        profile.location.iter().map(|location| (location.id, &location.line)).collect();
    let stack = |sample: &Sample| -> Result<Vec<&str>> {
        let mut names = Vec::new();
        for id in &sample.location_id {
            for line in *locations.get(id).context("a location is missing")? {
                names.push(text(*functions.get(&line.function_id).context("a function")?)?);
            }
        }
        Ok(names)
    };
    profile.sample.iter().map(stack).collect()
}

#[test]
fn a_profile_shows_the_agent_at_work_and_disturbs_nothing() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let config = "drain_interval_ms = 50\n[status]\npprof = true\nrequests_per_second = 100000\n";
    let (agent, status) = rig.agent_configured(folder.path(), config, &[])?;
    let done = AtomicBool::new(false);
    let (answer, counts) = std::thread::scope(|scope| {
        let profile = scope.spawn(|| {
            let answer = status.get("/debug/pprof/profile?seconds=3");
            done.store(true, Ordering::Relaxed);
            answer
        });
        // Work of the agent's own: the status is asked again and again, and packets come.
        let asking = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = status.get("/metrics");
            }
        });
        let counts = rig::tally(&rig.lab, |lab| {
            traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 300, 3, 100, 100)
        });
        asking.join().expect("no panic");
        (profile.join().expect("no panic"), counts)
    });
    let answer = answer?;
    ensure!(answer.status == 200, "{}", answer.text());
    let profile = Profile::decode(&answer.body[..])?;
    let stacks = stacks(&profile)?;
    let ours = |stack: &&Vec<&str>| stack.iter().any(|name| name.contains("flow_agent::status"));
    ensure!(stacks.iter().any(|stack| ours(&stack)), "no frame of the status in {stacks:?}");
    let types: Vec<_> = profile
        .sample_type
        .iter()
        .map(|kind| profile.string_table[kind.kind as usize].as_str())
        .collect();
    ensure!(types == ["samples", "cpu"], "{types:?}");
    ensure!(profile.sample.iter().all(|sample| sample.value.len() == 2 && sample.value[0] > 0));
    agent.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts?)
}

#[test]
fn the_heap_is_what_the_process_has_and_one_profile_is_made_at_a_time() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let (agent, status) = rig.agent_configured(folder.path(), "[status]\npprof = true\n", &[])?;
    let heap = status.json("/debug/pprof/heap")?;
    let of = |key: &str| heap[key].as_u64().with_context(|| format!("{key} in {heap}"));
    let (used, from_system) = (of("in_use_bytes")?, of("arenas_bytes")? + of("large_bytes")?);
    ensure!(used > 100_000 && used <= from_system, "{heap}");
    ensure!(of("arenas")? >= 1 && of("arenas_most_bytes")? >= of("arenas_bytes")?, "{heap}");
    let both = std::thread::scope(|scope| {
        let ask = || status.get("/debug/pprof/profile?seconds=2").map(|answer| answer.status);
        let asking = [scope.spawn(ask), scope.spawn(ask)];
        asking.map(|asking| asking.join().expect("no panic"))
    });
    let mut both: Vec<_> = both.into_iter().collect::<Result<_>>()?;
    both.sort_unstable();
    ensure!(both == [200, 503], "{both:?}");
    for (target, code) in [
        ("/debug/pprof/profile?seconds=0", 400),
        ("/debug/pprof/profile?seconds=61", 400),
        ("/debug/pprof/profile?seconds=-1", 400),
        ("/debug/pprof/profile?hertz=1", 400),
        ("/debug/pprof/heap?debug=1", 400),
        ("/debug/pprof/goroutine", 404),
    ] {
        ensure!(status.get(target)?.status == code, "{target}");
    }
    let post = raw_http::send(status.url(), "POST", "/debug/pprof/heap", &[], b"");
    ensure!(post.status == 405, "{}", post.text());
    agent.stop()?;
    Ok(())
}

#[test]
fn profiles_leave_no_file_behind() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let path = |name: &str| folder.path().join(name);
    let (temporary, config) = (path("tmp"), path("agent.toml"));
    fs::create_dir(&temporary)?;
    fs::write(&config, "[status]\npprof = true\n")?;
    let program = flow_agent_with(folder.path(), &format!("TMPDIR={}", temporary.display()))?;
    let config = config.to_str().context("a path in UTF-8")?;
    let more = [&ANY_PORT[..], &["--config", config]].concat();
    let agent = rig::agent_of(&program, &rig.lab, ("tc", "tc"), rig.store.url(), &more)?;
    let status = Status::of(&agent)?;
    let left = || fs::read_dir(&temporary).map(Iterator::count);
    for _ in 0..2 {
        let answer = status.get("/debug/pprof/profile?seconds=1")?;
        ensure!(answer.status == 200, "{}", answer.text());
        ensure!(left()? == 1, "{} things for two profiles", left()?);
    }
    agent.stop()?;
    ensure!(left()? == 0, "{} things are left", left()?);
    Ok(())
}
