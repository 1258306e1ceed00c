//! `flow-agent top` through a real terminal, with a real agent and real traffic: what is on the
//! screen is what the API says; sorting, filter, pause, export; the terminal afterwards.
//! Needs root, the agent's binary and libchdb.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Lab;
use flow_tests::rig;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::store::Store;
use flow_tests::traffic::{self, Ends};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long the screen may take to show something.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of what is sent to the terminal of a program that ends well.
const LEAVES: &str = "\u{1b}[?1049l";

/// A program on a terminal of its own.
struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn std::io::Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

fn size(rows: u16, cols: u16) -> PtySize {
    PtySize { rows, cols, ..PtySize::default() }
}

impl Terminal {
    fn start(arguments: &[&str], folder: &Path) -> Result<Self> {
        let pair = native_pty_system().openpty(size(40, 140))?;
        let mut command = CommandBuilder::new(flow_agent());
        command.args(arguments);
        command.cwd(folder);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command)?;
        let (mut reader, keys) = (pair.master.try_clone_reader()?, pair.master.take_writer()?);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(40, 140, 0)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let (seen, kept) = (screen.clone(), raw.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose program is gone ends with an error.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                seen.lock().expect("no panic").process(&buffer[..length]);
                kept.lock().expect("no panic").extend_from_slice(&buffer[..length]);
            }
        });
        // The slave stays open, so that its settings can be looked at after the end.
        std::mem::forget(pair.slave);
        Ok(Self { child, master: pair.master, keys, screen, raw })
    }

    fn text(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let started = Instant::now();
        // Nobody sends: receiving is waiting.
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        loop {
            let text = self.text();
            if is_so(&text) {
                return Ok(text);
            }
            ensure!(started.elapsed() < PATIENCE, "no {what} on the screen:\n{text}");
            let _ = never.recv_timeout(Duration::from_millis(20));
        }
    }

    /// `icanon`, `echo`: a terminal that a shell can go on with.
    fn settings(&self) -> Result<String> {
        let name = self.master.tty_name().context("it has a name")?;
        let terminal = std::fs::File::open(name)?;
        let output = Command::new("stty").arg("-a").stdin(Stdio::from(terminal)).output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn is_raw(&self) -> Result<bool> {
        let settings = self.settings()?;
        let off = |word: &str| settings.split_whitespace().any(|one| one == word);
        ensure!(off("-icanon") == off("-echo"), "{settings}");
        Ok(off("-icanon"))
    }

    /// Waits for its end; the terminal must be as it was before. Returns whether it ended well.
    fn ends(mut self) -> Result<bool> {
        let status = self.child.wait()?;
        ensure!(!self.is_raw()?, "the terminal is left raw");
        let started = Instant::now();
        while !String::from_utf8_lossy(&self.raw.lock().expect("no panic")).contains(LEAVES) {
            ensure!(started.elapsed() < PATIENCE, "the alternate screen is never left");
            std::thread::yield_now();
        }
        ensure!(!self.screen.lock().expect("no panic").screen().alternate_screen());
        ensure!(!self.screen.lock().expect("no panic").screen().hide_cursor(), "no cursor");
        Ok(status.success())
    }
}

/// Rows of the table on the screen that have a text, without its frame.
fn rows_with(lines: &[String], text: &str) -> Vec<Vec<String>> {
    let rows = lines.iter().filter(|line| line.starts_with('│') && line.contains(text));
    rows.map(|row| row.trim_matches('│').split_whitespace().map(str::to_owned).collect()).collect()
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0) + value[&format!("reverse_{name}")].as_u64().unwrap_or(0)
}

/// Both ends of a wire metered, with two services asked: 30 and 7 datagrams each way.
fn metered() -> Result<(Lab, Store, flow_tests::process::Agent, Status)> {
    let (lab, store) = (Lab::new()?, Store::start());
    let more = [&ANY_PORT[..], &["--idle-timeout", "600", "--active-timeout", "3600"]].concat();
    let more = [&more[..], &["--drain-interval", "100"]].concat();
    let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &more)?;
    let status = Status::of(&agent)?;
    traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 1, 30, 100, 200)?;
    traffic::ask(Ends::v4((&lab.left, 1), (&lab.right, 1), 123), 1, 7, 100, 200)?;
    agent.wait_until("all flows in the cache", PATIENCE, || {
        let page = status.json("/api/v1/flows/open?limit=10")?;
        let flows = page["flows"].as_array().cloned().unwrap_or_default();
        Ok(flows.iter().map(|flow| count(flow, "packets")).sum::<u64>() == 2 * 2 * 37)
    })?;
    Ok((lab, store, agent, status))
}

/// What is shown, in files for this user alone.
fn exports(top: &mut Terminal, folder: &Path) -> Result<()> {
    top.press("e")?;
    top.wait("word of the export", |text| text.contains("1 flows are in ./flow-agent-top-"))?;
    top.press("E")?;
    top.wait("word of the other", |text| text.contains(".json"))?;
    let mut found = 0;
    for entry in std::fs::read_dir(folder)? {
        use std::os::unix::fs::PermissionsExt as _;
        let path = entry?.path();
        assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path)?;
        if path.extension().is_some_and(|ending| ending == "json") {
            let list: Value = serde_json::from_str(&text)?;
            assert_eq!(list.as_array().map(Vec::len), Some(1));
            assert_eq!((&list[0]["packets"], &list[0]["dst_port"]), (&7.into(), &123.into()));
        } else {
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{text}");
            assert!(lines[0].starts_with("interface,direction,protocol,service,src_ip"));
            assert!(lines[1].contains("/veth-left,egress,udp,ntp,10.77.1.2,"), "{text}");
        }
        found += 1;
    }
    assert_eq!(found, 2);
    Ok(())
}

#[test]
fn the_screen_shows_what_the_api_says_and_obeys() -> Result<()> {
    let (lab, _store, agent, status) = metered()?;
    let folder = tempfile::tempdir()?;
    let arguments = ["top", "--status", status.address(), "--interval", "0.2"];
    let mut top = Terminal::start(&arguments, folder.path())?;
    let rates = |text: &str| text.contains("4 flows shown") && text.contains("packets/s");
    let shown = top.wait("flow", rates)?;
    assert!(top.is_raw()?, "keys come one by one");
    let page = status.json("/api/v1/flows/open")?;
    let flows = page["flows"].as_array().context("a list")?;
    assert_eq!(flows.len(), 4);
    let lines = top.lines();
    for flow in flows {
        let text = |name: &str| flow[name].as_str().unwrap_or_default().to_owned();
        let end = |side: &str| {
            format!("{}:{}", text(&format!("{side}_ip")), flow[format!("{side}_port")])
        };
        let rows = rows_with(&lines, &end("src"));
        let row = rows
            .iter()
            .find(|row| row.contains(&text("interface")))
            .with_context(|| format!("no row of {flow}:\n{shown}"))?;
        let expected = [
            end("src"),
            end("dst"),
            "udp".to_owned(),
            text("service"),
            text("interface"),
            text("direction"),
            count(flow, "packets").to_string(),
        ];
        assert_eq!(row[..7], expected, "{shown}");
        // 30 x (128 + 228) octets have a prefix, 7 x (128 + 228) have none.
        let octets = count(flow, "bytes");
        assert_eq!(row[7], if octets < 10_000 { octets.to_string() } else { "10.7k".into() });
    }
    // The health of the agent, from its status and ledger.
    let about = status.json("/api/v1/status")?;
    let exporter = about["exporter"].as_str().context("a name")?;
    for words in [exporter, "metering", "loss: none", "store 1 of 1 up", "packets/s", "cache 4 of"]
    {
        assert!(shown.contains(words), "no {words}:\n{shown}");
    }

    // By packets, most first; then the other way round.
    let first =
        |top: &Terminal| rows_with(&top.lines(), "10.77.").first().map(|row| row[6].clone());
    top.press("7")?;
    top.wait("mark at the packets", |text| text.contains("packets▼"))?;
    assert_eq!(first(&top).as_deref(), Some("60"));
    top.press("r")?;
    top.wait("turned mark", |text| text.contains("packets▲"))?;
    assert_eq!(first(&top).as_deref(), Some("14"));
    top.press("\u{1b}[D")?;
    top.wait("mark at the column to the left", |text| text.contains("dir▲"))?;

    // A filter, key by key.
    for (typed, shown) in
        [("/", "4 flows"), (":12", "0 flows"), ("3", "2 flows"), (" egr", "1 flows")]
    {
        top.press(typed)?;
        top.wait(typed, |text| text.contains(&format!(" {shown} shown of 4 open")))?;
    }
    top.press("\r")?;
    let text = top.wait("kept filter", |text| text.contains("(Esc clears)"))?;
    assert!(text.contains("veth-left") && !text.contains("veth-right"), "{text}");

    // All of that flow.
    top.press("\r")?;
    let wanted = "sent         7 packets, 896 octets";
    let text = top.wait("flow", |text| text.contains(wanted))?;
    assert!(text.contains("answered     7 packets, 1596 octets"), "{text}");
    top.press("\u{1b}")?;
    top.wait("table", |text| !text.contains(wanted))?;

    exports(&mut top, folder.path())?;
    top.press("\u{1b}")?;
    top.wait("all flows", |text| text.contains("4 flows shown"))?;
    top.press("?")?;
    top.wait("help", |text| text.contains("filter as you type"))?;
    top.press("?")?;
    top.wait("table", |text| !text.contains("filter as you type"))?;

    // Another size.
    top.master.resize(size(24, 100))?;
    top.screen.lock().expect("no panic").screen_mut().set_size(24, 100);
    top.wait("smaller table", |text| text.lines().count() <= 24 && text.contains("q quit"))?;

    // A pause holds the screen, whatever the agent says meanwhile.
    top.press("p")?;
    top.wait("pause", |text| text.contains("PAUSED"))?;
    traffic::ask(Ends::v4((&lab.left, 2), (&lab.right, 2), 53), 1, 3, 100, 100)?;
    agent.wait_until("the new flow in the cache", PATIENCE, || {
        Ok(status.json("/api/v1/flows/open")?["matching"] == 6)
    })?;
    top.press("j")?;
    assert!(top.text().contains("4 flows shown"), "{}", top.text());
    top.press("p")?;
    top.wait("new flow", |text| text.contains("6 flows shown of 6 open"))?;

    // An agent that goes away, while the screen stays.
    agent.stop()?;
    let text = top.wait("word about it", |text| text.contains("AWAY: no flow-agent answers"))?;
    assert!(text.contains("what it said last") && text.contains("6 flows shown"), "{text}");
    top.press("q")?;
    ensure!(top.ends()?, "it ends well");
    Ok(())
}

#[test]
fn the_terminal_is_restored_however_it_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let away = ["top", "--status", &free, "--interval", "0.2"];
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP)] {
        let mut top = Terminal::start(&away, folder.path())?;
        let text = top.wait("word", |text| text.contains("AWAY: no flow-agent answers"))?;
        assert!(text.contains("--status ADDR"), "what to do: {text}");
        assert!(top.is_raw()?);
        match signal {
            // Ctrl-C, as a key.
            None => top.press("\u{3}")?,
            Some(signal) => {
                let id = top.child.process_id().context("it runs")?;
                kill_process(Pid::from_raw(id as i32).context("an id")?, signal)?;
            }
        }
        ensure!(top.ends()?, "it ends well by {signal:?}");
    }
    Ok(())
}

#[test]
fn once_is_for_scripts_and_says_when_there_is_nobody() -> Result<()> {
    let (_lab, _store, agent, status) = metered()?;
    let run = |more: &[&str]| status.command(&[&["top", "--interval", "0.3"], more].concat());
    let output = run(&["--once", "--json", "--sort", "packets", "--filter", "veth-left"])?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page: Value = serde_json::from_slice(&output.stdout)?;
    let packets: Vec<_> = page["flows"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|flow| count(flow, "packets"))
        .collect();
    assert_eq!(packets, [60, 14]);
    assert_eq!((&page["open"], &page["flows"][0]["bits_per_second"]), (&4.into(), &0.0.into()));
    assert_eq!(
        page["ledger"]["metered"]["packets"],
        status.json("/api/v1/ledger")?["total"]["metered"]["packets"]
    );
    let text = String::from_utf8(run(&["--once"])?.stdout)?;
    assert_eq!(text.lines().filter(|line| line.contains("udp")).count(), 4, "{text}");
    assert!(text.contains("loss: none") && !text.contains('\u{1b}'), "{text}");
    // Neither a pipe nor a column that there is not is met by silence.
    let pipe = run(&[])?;
    let words = String::from_utf8_lossy(&pipe.stderr).into_owned();
    assert!(pipe.status.code() == Some(2) && words.contains("--once"), "{words}");
    let bad = run(&["--sort", "colour"])?;
    let words = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(2) && words.contains("octets"), "{words}");
    let refused = status.get("/api/v1/flows/open?limit=0")?;
    assert!(refused.status == 400 && refused.text().contains("limit"));
    agent.stop()?;
    let nobody = run(&["--once"])?;
    let words = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(nobody.status.code() == Some(1) && words.contains("no flow-agent answers"), "{words}");
    Ok(())
}
