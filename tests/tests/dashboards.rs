//! The dashboards on the real store: every query of every panel is run as the plugin would send
//! it. Needs root, the agent's binary and libchdb.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use flow_tests::dashboards::{self, Query};
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::traffic::{self, Ends};

fn sql_queries() -> Result<Vec<Query>> {
    let dashboards = dashboards::all()?;
    let all = dashboards.iter().flat_map(|(name, dashboard)| dashboards::queries(name, dashboard));
    Ok(all.filter(|query| query.is_sql).collect())
}

#[test]
fn every_sql_of_a_dashboard_runs_on_the_store_and_says_what_it_has() -> Result<()> {
    let rig = Rig::new()?;
    let (left, _) = rig.meter(("tc", "tc"), |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 50, 2, 100, 200)
    })?;
    let url = rig.store.url();
    let exporter = sql::text(url, "SELECT DISTINCT exporter FROM flow.flows")?.trim().to_owned();
    let now = flow_agent::clock::wall_clock() / 1_000_000_000;
    let address = rig.lab.left.v4(0).to_string();
    let mut rows = BTreeMap::new();
    for query in sql_queries()? {
        ensure!(!query.text.is_empty(), "{}: no query", query.place);
        let times = (now - 3600, now + 3600);
        let text = dashboards::sql(&query.text, times, &[&exporter, "no such host"], &address);
        ensure!(!text.contains('$'), "{}: not replaced: {text}", query.place);
        let answer = sql::rows(url, &text).with_context(|| format!("{}: {text}", query.place))?;
        rows.insert(query.place, answer);
    }
    ensure!(rows.len() > 15, "{} queries", rows.len());
    // What is empty here is what there is nothing of; all others show what was metered.
    let empty: Vec<_> =
        rows.iter().filter(|(_, rows)| rows.is_empty()).map(|(place, _)| place.as_str()).collect();
    let may_be = ["Anomalies", "Events", "Who knocks", "Devices", "handshakes", "missing"];
    let unexpected: Vec<_> =
        empty.iter().filter(|place| !may_be.iter().any(|words| place.contains(words))).collect();
    ensure!(unexpected.is_empty(), "nothing in {unexpected:?}");
    // Both ends metered each packet, and each is an observation point of its own.
    let hosts = &rows["fleet.json: \"Hosts by octets\""];
    let octets: u64 = hosts[0][1].parse()?;
    ensure!(octets == 2 * left.total.octets, "{hosts:?} of {:?}", left.total);
    // A talker's packets count once.
    let talkers = &rows["analyst.json: \"Top talkers\""];
    let us = talkers.iter().find(|row| row[0] == address).context("we talked")?;
    let [sent, received] = [&us[1], &us[2]].map(|text| text.parse::<u64>());
    ensure!(sent? + received? == left.total.octets, "{us:?} of {:?}", left.total);
    Ok(())
}

#[test]
fn dashboards_are_whole() -> Result<()> {
    let dashboards = dashboards::all()?;
    let names: Vec<_> = dashboards.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["analyst.json", "fleet.json", "host.json"], "{names:?}");
    for (name, dashboard) in &dashboards {
        ensure!(dashboard["schemaVersion"].as_u64() >= Some(41), "{name}: an old schema");
        let variables = dashboard["templating"]["list"].as_array().context("variables")?;
        let known: Vec<_> = variables.iter().filter_map(|it| it["name"].as_str()).collect();
        let panels = dashboard["panels"].as_array().context("panels")?;
        let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        ids.sort_unstable();
        ids.dedup();
        ensure!(ids.len() == panels.len(), "{name}: two panels with one id");
        let mut places = Vec::new();
        for panel in panels {
            let of = |key: &str| panel["gridPos"][key].as_u64().context("a place");
            let (x, y, w, h) = (of("x")?, of("y")?, of("w")?, of("h")?);
            ensure!(x + w <= 24, "{name}: {} is too wide", panel["title"]);
            for (title, (x2, y2, w2, h2)) in &places {
                let apart = x >= x2 + w2 || *x2 >= x + w || y >= y2 + h2 || *y2 >= y + h;
                ensure!(apart, "{name}: {} lies on {title}", panel["title"]);
            }
            places.push((panel["title"].clone(), (x, y, w, h)));
            let source = panel["datasource"]["uid"].as_str().unwrap_or("${clickhouse}");
            let source = source.trim_start_matches("${").trim_end_matches('}');
            ensure!(known.contains(&source), "{name}: {} asks {source}", panel["title"]);
        }
    }
    Ok(())
}
