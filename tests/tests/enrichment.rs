//! What rows say beside their packets, of real sockets, files and a resolver of the test's own.
//! Needs root, the agent's binary and libchdb.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_agent::schema::Schema;
use flow_tests::bin_path::flow_agent;
use flow_tests::cgroup::Cgroup;
use flow_tests::lab::Side;
use flow_tests::made::{capture, folder_with, lines, replay};
use flow_tests::mmdb::{asn_database, country_database};
use flow_tests::process::Agent;
use flow_tests::rig::{self, Rig};
use flow_tests::store::Store;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_mins(1);

/// The columns of `flows` that are a contract, in their order.
const CONTRACT: &str = "flow_start flow_end exported_at exporter interface direction src_ip dst_ip \
    src_port dst_port protocol packets bytes reverse_packets reverse_bytes tcp_flags \
    reverse_tcp_flags icmp_type icmp_code vlan_id inner_vlan_id dscp min_ttl max_ttl tunnel_type \
    tunnel_id tunnel_src tunnel_dst handshake_rtt_ns retransmits service flow_end_reason \
    initiator_by sampling batch_id community_id";
const ADDED: &str = "src_country dst_country src_asn dst_asn src_host dst_host unit";

fn columns(store: &Store) -> String {
    store
        .sql(
            "SELECT name FROM system.columns WHERE database = 'flow' AND table = 'flows' \
             ORDER BY position",
        )
        .replace('\n', " ")
}

fn databases(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (country, asn) = (folder.join("country.mmdb"), folder.join("asn.mmdb"));
    let countries =
        [("10.0.0.1/32", "DE"), ("fc00::/7", "FR"), ("10.77.1.0/24", "AT"), ("10.77.2.0/24", "CH")];
    fs::write(&country, country_database(&countries))?;
    fs::write(&asn, asn_database(&[("10.0.0.0/8", 64_500)]))?;
    Ok((country, asn))
}

/// Tables of an unreleased version keep their rows under another name; new ones take new rows.
#[test]
fn a_table_of_an_unreleased_version_is_set_aside_and_new_rows_are_filled() -> Result<()> {
    let store = Store::start();
    for statement in Schema::new("flow", false).bookkeeping() {
        store.sql(&statement);
    }
    store.sql(
        "INSERT INTO flow.schema_migrations (version, name, agent_version) \
         VALUES (1, 'flows', '0.1.0')",
    );
    store.sql(
        "CREATE TABLE flow.flows (exporter String, packets UInt64, src_port UInt32) \
         ENGINE = MergeTree ORDER BY exporter",
    );
    store.sql("INSERT INTO flow.flows VALUES ('old', 5, 7)");
    let verified =
        Command::new(flow_agent()).args(["schema", "verify", "--store", store.url()]).output()?;
    let said = String::from_utf8(verified.stdout)?;
    assert_eq!(verified.status.code(), Some(1), "{said}");
    for expected in [
        "flow.flows: order by is exporter; it should be (toStartOfHour(exported_at), ",
        "flow.flows: column src_port is UInt32; it should be UInt16",
        "flow.flows: column batch_id is missing; it should be UUID",
        "flow.flows_1m is missing",
    ] {
        ensure!(said.contains(expected), "{expected:?} is not in\n{said}");
    }

    for _ in 0..2 {
        let applied = Command::new(flow_agent())
            .args(["schema", "apply", "--store", store.url()])
            .output()?;
        ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        assert_eq!(columns(&store), format!("{CONTRACT} {ADDED}"));
        let version = Schema::version().to_string();
        assert_eq!(store.sql("SELECT max(version) FROM flow.schema_migrations"), version);
        assert_eq!(store.sql("SELECT * FROM flow.flows_v1"), "old\t5\t7");
        for table in ["flows", "events", "recent_events", "devices", "device_inventory"] {
            assert_eq!(store.count(&format!("flow.{table}")), 0, "{table}");
        }
    }
    let (folder, file) = folder_with("made.pcap", &capture());
    let (country, asn) = databases(folder.path())?;
    let output = format!("clickhouse:{}", store.url());
    let arguments = [
        "--output",
        &output,
        "--geoip-country",
        country.to_str().context("a text")?,
        "--geoip-asn",
        asn.to_str().context("a text")?,
    ];
    let replayed = replay(&arguments, &file);
    ensure!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let rows = store.sql(
        "SELECT DISTINCT exporter, protocol, src_country, dst_country, src_asn, dst_asn, src_host, \
         unit, 'end' FROM flow.flows ORDER BY exporter, protocol",
    );
    let expected = [
        "probe\t1\tDE\t\t64500\t64500\t\t\tend",
        "probe\t6\tDE\t\t64500\t64500\t\t\tend",
        "probe\t17\tFR\tFR\t0\t0\t\t\tend",
    ];
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn a_replay_has_places_only_when_files_are_given() -> Result<()> {
    let (folder, file) = folder_with("made.pcap", &capture());
    let (country, asn) = databases(folder.path())?;
    let (country, asn) = (country.to_str().context("text")?, asn.to_str().context("text")?);
    let plain = lines(&replay(&[], &file));
    let mut keys: Vec<_> = CONTRACT.split_whitespace().collect();
    keys.sort_unstable();
    for line in &plain {
        let found: Vec<_> = line.as_object().context("an object")?.keys().collect();
        assert_eq!(found, keys);
    }
    let arguments = ["--geoip-country", country, "--geoip-asn", asn];
    let first = replay(&arguments, &file);
    assert_eq!(first.stdout, replay(&arguments, &file).stdout);
    for (mut line, plain) in lines(&first).into_iter().zip(plain) {
        let object = line.as_object_mut().context("an object")?;
        let places = ["src_country", "dst_country", "src_asn", "dst_asn"]
            .map(|key| object.remove(key).unwrap_or_default());
        let expected = match plain["protocol"].as_u64() {
            Some(17) => serde_json::json!(["FR", "FR", 0, 0]),
            _ => serde_json::json!(["DE", "", 64_500, 64_500]),
        };
        assert_eq!(serde_json::json!(places), expected);
        assert_eq!(line, plain);
    }
    Ok(())
}

#[test]
fn a_file_of_addresses_that_cannot_be_used_is_refused_at_start() -> Result<()> {
    let (folder, file) = folder_with("made.pcap", &capture());
    let damaged = folder.path().join("damaged.mmdb");
    let whole = country_database(&[("10.0.0.0/8", "DE")]);
    fs::write(&damaged, &whole[..whole.len() - 40])?;
    let path = damaged.to_str().context("text")?;
    let replayed = replay(&["--geoip-country", path], &file);
    let message = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert_eq!(replayed.status.code(), Some(2), "{message}");
    assert!(message.contains(path) && message.contains("download it again"), "{message}");

    let config = folder.path().join("agent.toml");
    fs::write(&config, format!("[enrich]\ngeoip_asn = '{path}.missing'\n[state]\nfile = ''"))?;
    let run = Command::new(flow_agent())
        .args(["run", "--interface", "lo", "--config"])
        .arg(&config)
        .output()?;
    let message = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{message}");
    assert!(message.contains("damaged.mmdb.missing cannot be read"), "{message}");
    Ok(())
}

/// A connection that says something each time it is asked to.
struct Talk {
    client: TcpStream,
    server: TcpStream,
    _listener: TcpListener,
}

impl Talk {
    fn open(client: &Side, server: &Side, port: u16) -> Result<Self> {
        let to = SocketAddr::new(server.v4(0), port);
        let listener = server.namespace.enter(|| Ok(TcpListener::bind(to)?))?;
        let client = client.namespace.enter(|| Ok(TcpStream::connect(to)?))?;
        let (server, _) = listener.accept()?;
        Ok(Self { client, server, _listener: listener })
    }

    fn say(&mut self) -> Result<()> {
        let mut octets = [7; 100];
        self.client.write_all(&octets)?;
        self.server.read_exact(&mut octets)?;
        self.server.write_all(&octets)?;
        Ok(self.client.read_exact(&mut octets)?)
    }

    /// Talks until a row has it.
    fn until(&mut self, agent: &Agent, rig: &Rig, condition: &str) -> Result<()> {
        let question = format!("SELECT count() > 0 FROM flow.flows WHERE {condition}");
        agent.wait_until(condition, LIMIT, || {
            self.say()?;
            Ok(rig.store.sql(&question) == "1")
        })
    }
}

fn start(rig: &Rig, binary: &Path, folder: &Path, settings: &str) -> Result<Agent> {
    let config = folder.join("agent.toml");
    let text = format!("drain_interval_ms = 100\n[batch]\nage_ms = 100\n{settings}");
    fs::write(&config, text)?;
    let config = config.to_str().context("a text")?;
    let arguments = ["--config", config, "--idle-timeout", "1", "--active-timeout", "1"];
    rig::agent_of(binary, &rig.lab, ("tc", "tc"), rig.store.url(), &arguments)
}

/// The server is in a unit and the client is not: at the server's end rows have the unit, and the
/// service is called after it; at the client's end they have what the client is in.
#[test]
fn rows_have_the_unit_of_their_local_end_and_its_service() -> Result<()> {
    const PORT: u16 = 7707;
    let rig = Rig::new()?;
    let folder = TempDir::new()?;
    let settings = "[services]\nfrom-the-file = ['tcp/7708']\n[enrich]\nsockets_interval_s = 1";
    let agent = start(&rig, &flow_agent(), folder.path(), settings)?;
    let cgroup = Cgroup::join()?;
    let to = SocketAddr::new(rig.lab.left.v4(0), PORT);
    let listener = rig.lab.left.namespace.enter(|| Ok(TcpListener::bind(to)?))?;
    cgroup.leave();
    let client = rig.lab.right.namespace.enter(|| Ok(TcpStream::connect(to)?))?;
    let (server, _) = listener.accept()?;
    let mut talk = Talk { client, server, _listener: listener };
    let unit = cgroup.unit.clone().unwrap_or_default();
    let service = unit.strip_suffix(".service").unwrap_or_default();
    talk.until(
        &agent,
        &rig,
        &format!(
            "dst_port = {PORT} AND direction = 'ingress' AND unit = '{unit}' AND \
             service = '{service}'"
        ),
    )?;
    let mut other = Talk::open(&rig.lab.right, &rig.lab.left, 7708)?;
    other.until(&agent, &rig, "dst_port = 7708 AND service = 'from-the-file'")?;
    agent.stop()?;
    if cgroup.is_own() {
        let elsewhere = format!(
            "SELECT count() FROM flow.flows WHERE direction = 'egress' AND \
             (unit = '{unit}' OR service = '{service}')"
        );
        assert_eq!(rig.store.sql(&elsewhere), "0", "the client is in another unit");
    }
    Ok(())
}

/// Answers questions for the names of addresses that end in an odd number.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while let length @ 1.. = usize::from(*question.get(at)?) {
        labels.push(str::from_utf8(question.get(at + 1..at + 1 + length)?).ok()?);
        at += 1 + length;
    }
    let end = at + 5; // type and class
    let [d, c, b, a, "in-addr", "arpa"] = labels[..] else { return None };
    let mut reply = question.get(..end)?.to_vec();
    let known = d.parse::<u8>().ok()? % 2 == 1;
    // A response; no error, or no such name.
    reply[2..4].copy_from_slice(&if known { [0x81, 0x80] } else { [0x81, 0x83] });
    reply[6..12].copy_from_slice(&[0, u8::from(known), 0, 0, 0, 0]);
    if known {
        reply.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60]); // the name asked for, PTR, IN, 60 s
        let mut name = Vec::new();
        for label in [format!("host-{a}-{b}-{c}-{d}"), "lab".into(), "test".into()] {
            name.push(label.len() as u8);
            name.extend(label.as_bytes());
        }
        name.push(0);
        reply.extend((name.len() as u16).to_be_bytes());
        reply.extend(name);
    }
    Some(reply)
}

/// The agent, with a resolver at this address and nothing else.
fn with_resolver(folder: &Path, resolver: IpAddr) -> Result<PathBuf> {
    let (resolv, nsswitch) = (folder.join("resolv.conf"), folder.join("nsswitch.conf"));
    fs::write(&resolv, format!("nameserver {resolver}\noptions timeout:1 attempts:5\n"))?;
    fs::write(&nsswitch, "hosts: dns\n")?;
    let script = folder.join("agent");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c '\
         mount --bind {} /etc/resolv.conf && \
         if [ -e /etc/nsswitch.conf ]; then mount --bind {} /etc/nsswitch.conf; fi && \
         exec \"$0\" \"$@\"' {} \"$@\"\n",
        resolv.display(),
        nsswitch.display(),
        flow_agent().display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

#[test]
fn host_names_and_places_come_while_flows_go_on() -> Result<()> {
    let rig = Rig::new()?;
    let folder = TempDir::new()?;
    let resolver = UdpSocket::bind("127.0.77.1:53").context("port 53 of 127.0.77.1 is taken")?;
    let address = resolver.local_addr()?.ip();
    // It ends with the process of the test.
    thread::spawn(move || {
        let mut octets = [0; 512];
        while let Ok((length, from)) = resolver.recv_from(&mut octets) {
            if let Some(reply) = answer(&octets[..length]) {
                resolver.send_to(&reply, from).expect("on loopback");
            }
        }
    });
    let (country, asn) = databases(folder.path())?;
    let binary = with_resolver(folder.path(), address)?;
    let settings = format!(
        "[enrich]\nhost_names = true\ngeoip_country = '{}'\ngeoip_asn = '{}'",
        country.display(),
        asn.display()
    );
    let agent = start(&rig, &binary, folder.path(), &settings)?;
    let mut talk = Talk::open(&rig.lab.left, &rig.lab.right, 7709)?;
    let places = "src_country = 'AT' AND src_asn = 64500 AND dst_asn = 64500";
    let names = "src_host = 'host-10-77-1-1.lab.test' AND dst_host = 'host-10-77-2-1.lab.test'";
    talk.until(&agent, &rig, &format!("{places} AND dst_country = 'CH' AND {names}"))?;

    // A damaged file changes nothing, a whole one is used.
    let replace = |octets: &[u8]| -> Result<()> {
        fs::write(folder.path().join("new"), octets)?;
        Ok(fs::rename(folder.path().join("new"), &country)?)
    };
    replace(b"damaged")?;
    agent.wait_log("the data of before stay in use", LIMIT)?;
    replace(&country_database(&[("10.77.1.0/24", "AT"), ("10.77.2.0/24", "LI")]))?;
    talk.until(&agent, &rig, &format!("{places} AND dst_country = 'LI' AND {names}"))?;

    // Of an address without a name there is none.
    let to = SocketAddr::new(rig.lab.right.v4(1), 7710);
    let listener = rig.lab.right.namespace.enter(|| Ok(TcpListener::bind(to)?))?;
    let client = rig.lab.left.namespace.enter(|| Ok(TcpStream::connect(to)?))?;
    let (server, _) = listener.accept()?;
    let mut nameless = Talk { client, server, _listener: listener };
    let named = "dst_port = 7710 AND src_host = 'host-10-77-1-1.lab.test'";
    nameless.until(&agent, &rig, &format!("{named} AND dst_host = ''"))?;
    agent.stop()?;
    assert_eq!(
        rig.store.sql("SELECT count() FROM flow.flows WHERE dst_host != '' AND dst_port = 7710"),
        "0"
    );
    Ok(())
}

#[test]
fn with_everything_switched_off_rows_have_only_the_built_in_services() -> Result<()> {
    let rig = Rig::new()?;
    let folder = TempDir::new()?;
    let settings = "[services]\nmine = ['tcp/443']\n[enrich]\nenabled = false";
    let agent = start(&rig, &flow_agent(), folder.path(), settings)?;
    let mut talk = Talk::open(&rig.lab.left, &rig.lab.right, 443)?;
    talk.until(&agent, &rig, "service = 'https' AND unit = '' AND src_country = ''")?;
    agent.stop()?;
    assert_eq!(rig.store.sql("SELECT count() FROM flow.flows WHERE unit != ''"), "0");
    Ok(())
}
