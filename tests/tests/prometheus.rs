//! Prometheus itself on what it is given: its tool on the metrics and the rules, and its server on
//! a running agent. Needs root, the agent's binary, libchdb and Debian's `prometheus`.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::dashboards::{self, deploy};
use flow_tests::raw_http;
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::traffic::{self, Ends};
use serde_json::Value;

fn promtool(arguments: &[&str]) -> Result<String> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(deploy("prometheus"))
        .output()
        .context("no promtool: run `cargo xtask setup`")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "promtool {arguments:?}:\n{said}");
    Ok(said)
}

/// A server that ends with the test.
struct Server {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Server {
    /// Scrapes `target` with the rules of the tree, each second.
    fn start(folder: &Path, target: &str) -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = std::fs::read_to_string(deploy("prometheus/prometheus.yml"))?;
        let config = folder.join("prometheus.yml");
        std::fs::write(&config, text.replace("15s", "1s").replace("127.0.0.1:9469", target))?;
        for rules in ["recording.rules.yml", "alerts.rules.yml"] {
            std::fs::copy(deploy("prometheus").join(rules), folder.join(rules))?;
        }
        let log = folder.join("log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "prometheus"])
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("no prometheus: run `cargo xtask setup`")?;
        Ok(Self { child, url: format!("http://{free}"), log })
    }

    fn api(&self, path: &str, query: &str) -> Result<Value> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--get"])
            .args(["--data-urlencode", &format!("query={query}")])
            .arg(format!("{}/api/v1/{path}", self.url))
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer: Value = serde_json::from_slice(&output.stdout).context(errors)?;
        ensure!(answer["status"] == "success", "{path} {query}: {answer}");
        Ok(answer["data"].clone())
    }

    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.api("query", expression)?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_understands_the_metrics_the_rules_and_the_dashboards() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let agent = rig.agent_with(("tc", "tc"), &ANY_PORT)?;
    let status = Status::of(&agent)?;
    rig::tally(&rig.lab, |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 50, 2, 100, 200)
    })?;
    // As curl asks.
    let text = raw_http::send(status.url(), "GET", "/metrics", &[("Accept", "*/*")], b"");
    ensure!(text.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("no promtool: run `cargo xtask setup`")?;
    tool.stdin.take().context("piped")?.write_all(&text.body)?;
    let checked = tool.wait_with_output()?;
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    ensure!(checked.status.success() && said.is_empty(), "{said}");
    // The names are those of the document.
    let documented = dashboards::documented()?;
    let text = text.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let unknown: Vec<_> = samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !documented.contains(*name))
        .collect();
    ensure!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    // A real server takes OpenMetrics, and evaluates everything.
    let server = Server::start(folder.path(), status.address())?;
    let told = || std::fs::read_to_string(&server.log).unwrap_or_default();
    let scraped = agent.wait_until("scrapes and rules", Duration::from_secs(20), || {
        let rule = "count(instance:flow_agent_seen_packets:rate5m)";
        Ok(server.query(rule).is_ok_and(|found| !found.is_empty()))
    });
    scraped.with_context(told)?;
    let targets = server.api("targets", "")?;
    let target = &targets["activeTargets"][0];
    ensure!(target["health"] == "up" && target["lastError"] == "", "{target}");
    let rules = server.api("rules", "")?;
    let groups = rules["groups"].as_array().context("groups")?;
    let rules: Vec<_> =
        groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    let mut recorded: Vec<&str> = Vec::new();
    for rule in &rules {
        ensure!(rule["health"] != "err", "{rule}");
        if rule["type"] == "recording" {
            recorded.push(rule["name"].as_str().context("a name")?);
        }
    }
    are_known(&rules, &recorded)?;
    // Nothing is wrong with this agent.
    let firing: Vec<_> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    ensure!(firing.is_empty(), "{firing:?}");
    let mut asked = 0;
    for (name, dashboard) in dashboards::all()? {
        for query in dashboards::queries(&name, &dashboard) {
            if query.is_sql {
                continue;
            }
            let expression = dashboards::promql(&query.text);
            ensure!(!expression.contains('$'), "{}: not replaced: {expression}", query.place);
            server.query(&expression).with_context(|| query.place.clone())?;
            names_are_known(&expression, &recorded).with_context(|| query.place.clone())?;
            asked += 1;
        }
    }
    ensure!(asked > 20, "only {asked} queries");
    agent.stop()?;
    Ok(())
}

/// An error unless every metric in it is documented or recorded.
fn names_are_known(expression: &str, recorded: &[&str]) -> Result<()> {
    let documented = dashboards::documented()?;
    for name in dashboards::metrics(expression) {
        let known = documented.contains(&name) || recorded.contains(&name.as_str());
        ensure!(known, "{name} is no metric of the agent: {expression}");
    }
    Ok(())
}

/// Rules name metrics that there are; alerts say what, what to do and where that is told.
fn are_known(rules: &[&Value], recorded: &[&str]) -> Result<()> {
    let tests = std::fs::read_to_string(deploy("prometheus/flow-agent.test.yml"))?;
    let mut alerts = 0;
    for rule in rules {
        let (name, query) = (&rule["name"], rule["query"].as_str().context("a query")?);
        names_are_known(query, recorded)?;
        if rule["type"] != "alerting" {
            continue;
        }
        let annotation = |key: &str| {
            let text = rule["annotations"][key].as_str().filter(|text| !text.is_empty());
            text.with_context(|| format!("{name} has no {key}"))
        };
        annotation("summary")?;
        annotation("description")?;
        let (path, section) =
            annotation("runbook_url")?.split_once('#').context("a section of a document")?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let document = std::fs::read_to_string(&path)
            .with_context(|| format!("{name}: {}", path.display()))?;
        let anchor = |line: &str| {
            let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            line.starts_with('#') && title == section
        };
        ensure!(
            document.lines().any(anchor),
            "{name}: {} has no section {section}",
            path.display()
        );
        // It fires in a test of its own: the healthy agent names it without alerts.
        let fires = format!("  - name: {}\n", name.as_str().unwrap_or_default());
        ensure!(tests.contains(&fires), "{name} has no test");
        alerts += 1;
    }
    ensure!(alerts > 15, "only {alerts} alerts");
    Ok(())
}

#[test]
fn rules_and_their_tests_are_good() -> Result<()> {
    promtool(&["check", "rules", "recording.rules.yml", "alerts.rules.yml"])?;
    promtool(&["check", "config", "prometheus.yml"])?;
    let said = promtool(&["test", "rules", "flow-agent.test.yml"])?;
    ensure!(said.contains("SUCCESS"), "{said}");
    Ok(())
}
