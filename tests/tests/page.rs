//! The page at `/` in a real browser, of a real agent that meters real traffic: it shows what the
//! API says, breaks no policy, hinders nobody, and is small. Needs root, the agent's binary,
//! libchdb and Chromium.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::browser::{Browser, Gate};
use flow_tests::process::Agent;
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A machine may be busy, and the page asks every 2 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// Flows stay open for as long as the test takes.
const CONFIG: &str = "\
drain_interval_ms = 100
idle_timeout_s = 600
active_timeout_s = 600
[analytics]
learning_s = 0
";
/// The kernel counts what a packet costs.
const COUNTED: &str = "[run]\nkernel_statistics = true\n";
/// What a browser may have to fetch, all of it.
const MOST_OCTETS: u64 = 300_000;

fn agent(rig: &Rig, folder: &TempDir, more: &str) -> Result<(Agent, Status)> {
    rig.agent_configured(folder.path(), &[CONFIG, more].concat(), &[])
}

/// Traffic of several kinds between both ends.
fn talk(rig: &Rig) -> Result<()> {
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    traffic::short(Ends::v4((left, 1), (right, 1), 443), 20, 200, 30_000)?;
    traffic::short(Ends::v6((right, 0), (left, 0), 22), 3, 5_000, 9_000)?;
    traffic::ask(Ends::v6((left, 2), (right, 2), 53), 10, 3, 40, 300)?;
    traffic::ask(Ends::v4((left, 3), (right, 2), 53), 10, 2, 40, 200)?;
    traffic::ping(Ends::v4((left, 0), (right, 0), 0), 5, 56)?;
    Ok(())
}

/// The page with what is in it, as soon as the agent has answered twice.
fn open(browser: &Browser, status: &Status) -> Result<()> {
    browser.open(&format!("{}/", status.url()))?;
    browser.wait("return Number(document.body.dataset.turn) >= 2", PATIENCE)?;
    Ok(())
}

/// Where pictures are kept.
fn picture(name: &str) -> PathBuf {
    let agent = flow_agent();
    let target = agent.ancestors().nth(2).map_or_else(|| "target".into(), PathBuf::from);
    target.join("page").join(format!("{name}.png"))
}

/// Exact values of the page by a name: tiles, lines of the cards, the ledger, the interfaces.
const SHOWN: &str = "
const shown = {};
for (const data of document.querySelectorAll('.tiles data')) shown[data.id] = data.value;
for (const card of document.querySelectorAll('.card')) {
  card.querySelectorAll('dt').forEach((name) => {
    shown[`${card.id} ${name.textContent}`] = name.nextElementSibling.firstElementChild.value;
  });
}
for (const row of document.querySelectorAll('#t-ledger tbody tr')) {
  const [stage, reason, packets, octets] = row.children;
  shown[`${stage.textContent} ${reason.textContent}`.trim()] =
    `${packets.firstElementChild.value} ${octets.firstElementChild.value}`;
}
for (const row of document.querySelectorAll('#t-interfaces tbody tr')) {
  shown[row.children[0].textContent] = row.children[3].firstElementChild.value;
}
shown.exporter = document.getElementById('exporter').textContent;
shown.phase = document.getElementById('phase').textContent;
shown.version = document.getElementById('version').textContent;
return shown;";

/// The same values as the API has them.
fn said(status: &Status) -> Result<Value> {
    let api = |page: &str| status.json(&format!("/api/v1/{page}"));
    let (main, ledger, interfaces) = (api("status")?, api("ledger")?, api("interfaces")?);
    let (spool, cache, traffic) = (api("spool")?, api("cache")?, &api("overview")?["traffic"]);
    let packets = &main["packets"];
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut said = json!({
        "rx-bits": traffic["received"]["octets"],
        "rx-packets": traffic["received"]["packets"],
        "tx-bits": traffic["sent"]["octets"],
        "tx-packets": traffic["sent"]["packets"],
        "flows-open": main["cache"]["flows"],
        "flows-max": main["cache"]["max_flows"],
        "hit-ratio": main["cache"]["hit_ratio"],
        "cache-bytes": main["cache"]["bytes"],
        "lost": number(&packets["lost"]) + number(&packets["undelivered"]),
        "seen": packets["seen"],
        "kernel-ns": main["programs"]["ns_per_run"],
        "card-tables Memory": main["tables"]["bytes"],
        "card-tables Left full sets": main["tables"]["evicted_flows"],
        "card-drain Every": main["drains"]["interval_ms"],
        "card-drain Failed": main["drains"]["failed"],
        "card-cache Flows": cache["flows"],
        "card-cache Memory": cache["bytes"],
        "card-delivery Quarantined rows": main["delivery"]["quarantined_rows"],
        "card-spool Rows": spool["rows"],
        "card-spool Batches": spool["batches"],
        "exporter": main["exporter"],
        "phase": main["phase"],
        "version": main["version"],
    });
    let total = ledger["total"].as_object().context("the ledger has stages")?;
    let count = |count: &Value| json!(format!("{} {}", count["packets"], count["octets"]));
    for (stage, reasons) in total.iter().filter(|(stage, _)| !DERIVED.contains(&stage.as_str())) {
        if reasons["packets"].is_u64() {
            said[stage.replace('_', " ")] = count(reasons);
        } else {
            for (reason, counted) in reasons.as_object().context("reasons")? {
                said[format!("{} {reason}", stage.replace('_', " "))] = count(counted);
            }
        }
    }
    for interface in interfaces["metered"].as_array().context("a list")? {
        let name = interface["name"].as_str().context("a name")?;
        said[name] = interface["metered"]["packets"].clone();
    }
    Ok(said)
}

/// Not in the table of the ledger, but in the line above it.
const DERIVED: [&str; 2] = ["unaccounted", "in_flight"];

/// Waits until the page shows what the API says; else the values that differ.
fn agree(browser: &Browser, status: &Status) -> Result<usize> {
    let started = Instant::now();
    loop {
        let (said, shown) = (said(status)?, browser.run(SHOWN)?);
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let said = said.as_object().context("an object")?;
        let different: Vec<_> = said
            .iter()
            .filter(|(name, value)| text(&shown[name.as_str()]) != text(value))
            .map(|(name, value)| format!("{name}: {value}, the page has {}", shown[name.as_str()]))
            .collect();
        if different.is_empty() {
            return Ok(said.len());
        }
        ensure!(started.elapsed() < PATIENCE, "different:\n{}", different.join("\n"));
    }
}

/// Nobody may be hindered, wide and narrow, in the light and in the dark; pictures are kept.
fn looks_well(browser: &Browser, name: &str) -> Result<()> {
    browser.run(
        "const field = document.getElementById('flow-search');
         field.value = '';
         field.dispatchEvent(new Event('input'));
         field.blur();
         scrollTo({ top: 0, behavior: 'instant' });",
    )?;
    browser.wait("return document.querySelector('#t-flows .empty') === null", PATIENCE)?;
    for (width, height, size) in [(1440, 900, "wide"), (390, 844, "phone")] {
        for (dark, scheme) in [(false, "light"), (true, "dark")] {
            browser.look(width, height, dark)?;
            let dressed = format!("return document.documentElement.dataset.theme === '{scheme}'");
            browser.wait(&dressed, PATIENCE)?;
            let fits = "return document.documentElement.scrollWidth <= innerWidth";
            browser.wait(fits, PATIENCE).context("the page is wider than the screen")?;
            let violations = browser.violations()?;
            assert!(violations.is_empty(), "{size}, {scheme}:\n{}", violations.join("\n"));
            browser.picture(&picture(&format!("{name}-{size}-{scheme}")))?;
        }
    }
    Ok(())
}

#[test]
fn the_page_shows_what_the_agent_says() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let (agent, status) = agent(&rig, &folder, COUNTED)?;
    let browser = Browser::start()?;
    talk(&rig)?;
    // What the history is made of.
    let all = |name: &str| -> Result<u64> {
        Ok(status.json("/api/v1/status")?["packets"][name].as_u64().unwrap_or_default())
    };
    agent.wait_until("all is drained", PATIENCE, || {
        Ok(all("seen")? > 200 && all("drained")? == all("metered")?)
    })?;
    // Emitted again and again: what was drained is in the cache a moment later.
    agent.wait_until("all is stored", PATIENCE, || {
        status.invalidate(&json!({ "all": true }))?;
        Ok(all("in_flight")? == 0)
    })?;
    let rows = sql::number(rig.store.url(), "SELECT count() FROM flow.flows")?;
    // And flows that stay open.
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    traffic::ask(Ends::v6((left, 2), (right, 2), 53), 10, 3, 40, 300)?;
    traffic::ask(Ends::v4((left, 3), (right, 2), 53), 10, 2, 40, 200)?;
    traffic::ping(Ends::v4((left, 0), (right, 0), 0), 5, 56)?;

    browser.look(1440, 900, false)?;
    let opened = Instant::now();
    open(&browser, &status)?;
    println!("second answer shown after {:?}", opened.elapsed());
    let load = browser.run(
        "const [page] = performance.getEntriesByType('navigation');
         const all = [page, ...performance.getEntriesByType('resource')];
         const files = all.filter((one) => !one.name.includes('/api/'));
         return { load_ms: page.loadEventEnd, first_values_ms: performance.getEntriesByName('first values')[0].startTime,
           octets: all.reduce((sum, one) => sum + one.transferSize, 0),
           files: files.reduce((sum, one) => sum + one.transferSize, 0), requests: all.length,
           elsewhere: all.filter((one) => new URL(one.name).origin !== location.origin).map((one) => one.name) };",
    )?;
    println!("loading: {load}");
    assert!(load["octets"].as_u64().context("octets")? < MOST_OCTETS, "{load}");
    assert!(load["files"].as_u64() > Some(30_000), "all of it came over the wire: {load}");
    assert_eq!(load["elsewhere"], json!([]));

    let values = agree(&browser, &status)?;
    println!("{values} values of the page are those of the API");
    assert!(values > 25, "{values}");
    the_flows_are_those_of_the_api(&browser, &status)?;

    // The past: the agent has asked the store for it.
    browser.run("document.getElementById('history').scrollIntoView()")?;
    let past = status.json("/api/v1/history?hours=24")?;
    let points = past["points"].as_array().context("points")?;
    let flows: u64 = points.iter().filter_map(|point| point[5].as_u64()).sum();
    assert_eq!(flows, rows, "{past}");
    browser.wait(
        &format!("return document.getElementById('history-note').dataset.flows === '{flows}'"),
        PATIENCE,
    )?;
    // Charts are drawn: some of each canvas is not empty.
    browser.wait(
        "return ['bits-chart', 'packets-chart', 'histogram', 'history-chart'].every((id) => {
           const canvas = document.querySelector(`#${id} canvas`);
           const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
           return data.some((octet) => octet !== 0);
         })",
        PATIENCE,
    )?;
    let alerts =
        "return [...document.querySelectorAll('#alerts .alert')].map((one) => one.dataset.id)";
    let listed = status.json("/api/v1/overview")?["alerts"].clone();
    let listed: Vec<_> =
        listed.as_array().context("a list")?.iter().map(|one| one["id"].clone()).collect();
    assert_eq!(browser.run(alerts)?, json!(listed));

    looks_well(&browser, "page")?;
    assert_eq!(browser.complaints()?, Vec::<String>::new());

    // Paused it asks nothing; the agent goes away, and the page says so.
    let turn = "return document.body.dataset.turn";
    browser.run("document.getElementById('pause').click()")?;
    let before = browser.run(turn)?;
    browser.run("document.getElementById('pause').click()")?;
    browser.wait(&format!("return document.body.dataset.turn !== {before}"), PATIENCE)?;
    agent.stop()?;
    browser.wait("return !document.getElementById('away').hidden", PATIENCE)?;
    let away = browser.run("return document.getElementById('away').textContent")?;
    assert!(away.as_str().is_some_and(|text| text.contains("does not answer")), "{away}");
    Ok(())
}

/// The table has the flows that the API has, also those that somebody looks for.
fn the_flows_are_those_of_the_api(browser: &Browser, status: &Status) -> Result<()> {
    let table =
        "return [...document.querySelectorAll('#t-flows tbody tr:not(.empty)')].map((row) =>
      [...row.querySelectorAll('data')].map((data) => Number(data.value)))";
    browser.run("document.getElementById('flows').scrollIntoView()")?;
    let mut seen = Vec::new();
    for search in ["", "udp 53", "10.77. domain", "fd00:77: udp", "10.99.0.0/16"] {
        browser.run(
            "const field = document.getElementById('flow-search'); field.value = ''; field.focus()",
        )?;
        browser.type_text(&format!("{search} "))?;
        let words = search.replace(' ', "%20");
        let page = status.json(&format!("/api/v1/flows/open?search={words}"))?;
        let number = |flow: &Value, name: &str| flow[name].as_u64().unwrap_or_default();
        let flows: Vec<_> = page["flows"]
            .as_array()
            .context("a list")?
            .iter()
            .map(|flow| {
                json!([
                    number(flow, "packets") + number(flow, "reverse_packets"),
                    flow["bytes"],
                    flow["reverse_bytes"]
                ])
            })
            .collect();
        seen.push(page["matching"].as_u64().unwrap_or_default());
        let wanted = serde_json::to_string(&flows)?;
        let list = table.trim_start_matches("return ");
        let same = format!("return JSON.stringify({list}) === '{wanted}'");
        browser.wait(&same, PATIENCE).with_context(|| format!("search {search:?}"))?;
    }
    // Both ends are metered, and nothing has gone.
    assert!(
        seen[0] > seen[1] && seen[1] > 0 && seen[2] > 0 && seen[3] > 0 && seen[4] == 0,
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn trouble_is_told_with_what_to_do() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let (agent, status) = agent(&rig, &folder, "")?;
    let browser = Browser::start()?;
    browser.look(1440, 900, true)?;
    open(&browser, &status)?;
    browser.wait("return document.querySelector('#alerts .calm') !== null", PATIENCE)?;
    // What a packet costs is not counted unless that is asked for; the page says how.
    if status.json("/api/v1/status")?["programs"]["counted_for"].is_null() {
        let said = browser.run("return document.getElementById('tile-kernel').textContent")?;
        assert!(said.as_str().is_some_and(|said| said.contains("kernel.bpf_stats_enabled=1")));
    }
    let Rig { lab, store } = rig;
    let killed = store.kill();
    traffic::ask(Ends::v4((&lab.left, 3), (&lab.right, 2), 53), 10, 2, 40, 200)?;
    browser.wait(
        "return document.querySelector('.alert[data-id=store_failing] code') !== null",
        PATIENCE,
    )?;
    let violations = browser.violations()?;
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    browser.picture(&picture("trouble"))?;
    let store = killed.start();
    browser.wait("return document.querySelector('#alerts .calm') !== null", PATIENCE)?;
    agent.stop()?;
    let lost =
        sql::number(store.url(), "SELECT count() FROM flow.ledger WHERE stage = 'undelivered'")?;
    assert_eq!(lost, 0, "what waited is stored");
    Ok(())
}

#[test]
fn a_token_is_asked_for_and_kept() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let (agent, status) = agent(&rig, &folder, "")?;
    let gate = Gate::start(status.address(), "the-token")?;
    let browser = Browser::start()?;
    browser.open(&gate.url())?;
    let asks = "return document.getElementById('token-dialog').open";
    let wrong = "return !document.getElementById('token-error').hidden";
    browser.wait(asks, PATIENCE)?;
    assert_eq!(browser.run(wrong)?, false, "nothing was wrong yet");
    let violations = browser.violations()?;
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    // The field has the focus, and Enter is enough.
    browser.type_text("another\u{e007}")?;
    browser.wait(&format!("{wrong} && document.getElementById('token-dialog').open"), PATIENCE)?;
    browser.type_text("the-token\u{e007}")?;
    let version = env!("CARGO_PKG_VERSION");
    let values = format!("return document.getElementById('version').textContent === '{version}'");
    browser.wait(&values, PATIENCE)?;
    assert_eq!(browser.run(asks)?, false);
    // It is kept, and not in the address.
    browser.open(&gate.url())?;
    browser.wait(&values, PATIENCE)?;
    assert_eq!(browser.run(asks)?, false);
    assert_eq!(browser.run("return location.href")?, format!("{}/", gate.url()));
    agent.stop()?;
    Ok(())
}
