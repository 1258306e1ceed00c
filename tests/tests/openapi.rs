//! The description of the status against the running agent: a validator of its own accepts it,
//! and every answer has the shape that it says. Needs root, the agent's binary, libchdb and a
//! Python with `openapi-spec-validator` (`cargo xtask setup`).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::process::Agent;
use flow_tests::python::python;
use flow_tests::raw_http::{self, Answer};
use flow_tests::rig::{self, Rig};
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "\
drain_interval_ms = 100
idle_timeout_s = 1
active_timeout_s = 1
[batch]
age_ms = 200
[analytics]
learning_s = 0
";

/// An agent that has metered something and found something out.
fn agent(rig: &Rig, folder: &TempDir, more: &str) -> Result<(Agent, Status)> {
    let (agent, status) = rig.agent_configured(folder.path(), &[CONFIG, more].concat(), &[])?;
    rig::tally(&rig.lab, |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 20, 2, 100, 100)
    })?;
    Ok((agent, status))
}

/// The document of an agent, which a validator accepts.
fn document(status: &Status, folder: &TempDir) -> Result<Value> {
    let text = status.get("/api/v1/openapi.json")?.text();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, &text)?;
    let checked =
        Command::new(python()).args(["-m", "openapi_spec_validator"]).arg(&file).output()?;
    let said = [checked.stdout, checked.stderr].concat();
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(serde_json::from_str(&text)?)
}

/// Where the document says `{"$ref": "#/..."}`, what is there.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(&place[1..]).expect("a validator has accepted it"),
        None => value,
    }
}

/// An error unless `value` has the shape of this schema.
fn has_shape(document: &Value, schema: &Value, value: &Value) -> Result<()> {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&whole)
        .map_err(|error| anyhow::anyhow!("{error}: {schema}"))?;
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    ensure!(errors.is_empty(), "{}\n{schema}\n{value}", errors.join("\n"));
    Ok(())
}

/// An error unless the answer is one that the document has for this route.
fn is_described(document: &Value, method: &str, target: &str, answer: &Answer) -> Result<()> {
    let path = target.split('?').next().unwrap_or_default();
    let (status, told) = (answer.status.to_string(), format!("{method} {target}"));
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let response = responses.get(&status).with_context(|| format!("{told}: {status}"))?;
    let response = resolved(document, response);
    let kind = answer.header("content-type").context("a content type")?;
    let content = response["content"].get(kind).with_context(|| format!("{told}: {kind}"))?;
    for header in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        ensure!(answer.header(&header.to_lowercase()).is_some(), "{told}: no {header}");
    }
    if kind == "application/json" {
        let value = serde_json::from_str(&answer.text())?;
        has_shape(document, &content["schema"], &value).context(told)?;
    }
    Ok(())
}

#[test]
fn every_answer_has_the_shape_that_the_document_says() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let (agent, status) = agent(&rig, &folder, "[status]\npprof = true\n")?;
    let document = document(&status, &folder)?;
    // What the analytics show is renewed every few seconds, and rows are stored in less.
    agent.wait_until("something in every list", Duration::from_secs(30), || {
        let (top, store) = (status.json("/api/v1/top")?, status.json("/api/v1/status")?);
        let stored = store["packets"]["acknowledged"].as_u64().unwrap_or_default();
        Ok(top["talkers"].as_array().is_some_and(|list| !list.is_empty()) && stored > 0)
    })?;
    let key = format!("udp,{}:53,{}:1", rig.lab.right.v4(0), rig.lab.left.v4(0));
    let mut asked = BTreeSet::new();
    for path in document["paths"].as_object().context("paths")?.keys() {
        let targets = match path.as_str() {
            "/api/v1/cache" => vec![path.clone(), format!("{path}?details=true")],
            "/api/v1/flows" => vec![
                format!("{path}?key={key}"),
                format!("{path}?key={key}&store=false"),
                format!("{path}?key=tcp"),
                path.clone(),
            ],
            "/debug/pprof/profile" => {
                vec![format!("{path}?seconds=1"), format!("{path}?seconds=0")]
            }
            "/api/v1/cache/invalidate" => continue,
            _ => vec![path.clone(), format!("{path}?no=such")],
        };
        for target in targets {
            let answer = status.get(&target)?;
            is_described(&document, "GET", &target, &answer)?;
            asked.insert((path.clone(), answer.status));
        }
        ensure!(asked.contains(&(path.clone(), 200)), "{path} has not answered");
    }
    let (post, json_type) = ("/api/v1/cache/invalidate", ("Content-Type", "application/json"));
    let large = vec![b' '; 20 << 10];
    for (headers, body, code) in [
        (&[json_type][..], &br#"{"all":true,"mode":"hard"}"#[..], 200),
        (&[json_type], br#"{"all":true,"version":"1"}"#, 400),
        (&[json_type], &large, 413),
        (&[], b"{}", 415),
    ] {
        let answer = raw_http::send(status.url(), "POST", post, headers, body);
        ensure!(answer.status == code, "{}", answer.text());
        is_described(&document, "POST", post, &answer)?;
    }
    // Another name for this host.
    let mut stream = raw_http::connect(status.url());
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: example.org\r\n\r\n")?;
    let strange = raw_http::read_answer(stream)?;
    ensure!(strange.status == 421, "{}", strange.text());
    is_described(&document, "GET", "/readyz", &strange)?;
    agent.stop()?;
    Ok(())
}

#[test]
fn what_is_switched_off_and_what_is_forbidden_is_described_too() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let token = folder.path().join("token");
    flow_tests::status::write_secret(&token, "0123456789abcdef0123")?;
    let section = format!(
        "[status]\nrequests_per_second = 4\ntoken_file = '{}'\n[memory]\nenabled = false\n\
         [analytics]\nenabled = false\n",
        token.display()
    );
    let (agent, status) = rig.agent_configured(folder.path(), &section, &[])?;
    let with_token = [("Authorization", "Bearer 0123456789abcdef0123")];
    let ask = |target: &str, headers: &[(&str, &str)]| {
        raw_http::send(status.url(), "GET", target, headers, b"")
    };
    let text = ask("/api/v1/openapi.json", &with_token).text();
    let document: Value = serde_json::from_str(&text)?;
    for target in ["/api/v1/status", "/api/v1/events", "/api/v1/devices", "/api/v1/top"] {
        let answer = ask(target, &with_token);
        ensure!(answer.status == 200, "{}", answer.text());
        is_described(&document, "GET", target, &answer)?;
    }
    let off = ask("/debug/pprof/heap", &with_token);
    ensure!(off.status == 404 && off.text().contains("pprof = true"), "{}", off.text());
    is_described(&document, "GET", "/debug/pprof/heap", &off)?;
    let refused = ask("/api/v1/ledger", &[]);
    ensure!(refused.status == 401, "{}", refused.text());
    is_described(&document, "GET", "/api/v1/ledger", &refused)?;
    let too_many = (0..100).map(|_| ask("/readyz", &with_token)).find(|it| it.status == 429);
    is_described(&document, "GET", "/readyz", &too_many.context("nobody was told to wait")?)?;
    agent.stop()?;
    Ok(())
}

#[test]
fn examples_have_the_shape_that_is_said() -> Result<()> {
    let document: Value =
        serde_json::from_str(include_str!("../../flow-agent/src/status/openapi.json"))?;
    let mut examples = 0;
    let mut places = vec![&document["paths"], &document["components"]["responses"]];
    while let Some(place) = places.pop() {
        if let (Some(schema), Some(example)) = (place.get("schema"), place.get("example")) {
            has_shape(&document, schema, example)?;
            examples += 1;
        }
        match place {
            Value::Object(map) => places.extend(map.values()),
            Value::Array(list) => places.extend(list),
            _ => {}
        }
    }
    ensure!(examples > 25, "only {examples} examples");
    for (path, methods) in document["paths"].as_object().context("paths")? {
        for (method, operation) in methods.as_object().context("methods")? {
            let good = &operation["responses"]["200"]["content"];
            let good = good.as_object().with_context(|| format!("{method} {path}"))?;
            let shown = good.iter().all(|(kind, content)| {
                kind == "application/octet-stream"
                    || content.get("example") != Some(&json!(null))
                        && content.get("example").is_some()
            });
            ensure!(shown, "{method} {path} has no example");
        }
    }
    Ok(())
}
