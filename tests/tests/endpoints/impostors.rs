//! The running agent, whose store's place is taken by somebody else for a while: over TLS with a
//! wrong certificate, an old version, or none. Nothing is acknowledged, and nothing is lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::lab::Lab;
use flow_tests::process::Agent;
use flow_tests::store::Store;
use flow_tests::tally::Tally;
use flow_tests::traffic::{self, Ends};
use flow_tests::{rig, stored};
use tempfile::TempDir;

use super::servers::{Authority, Door};

const LIMIT: Duration = Duration::from_mins(1);
const FAR: i32 = 2900;

/// Who stands there instead.
enum Impostor {
    /// A TLS server with this certificate, before the true store.
    Certificate { authority: &'static str, name: &'static str, last_year: i32 },
    /// One that says these octets to everybody.
    Says(fn() -> Vec<u8>),
}

/// Their names, and words of the agent's log that prove that it met them. CI takes the first.
const IMPOSTORS: [(&str, Impostor, &str); 5] = [
    (
        "tls_unknown_authority",
        Impostor::Certificate { authority: "other", name: "localhost", last_year: FAR },
        "UnknownIssuer",
    ),
    (
        "tls_other_name",
        Impostor::Certificate { authority: "ours", name: "elsewhere", last_year: FAR },
        "not valid for name",
    ),
    (
        "tls_expired",
        Impostor::Certificate { authority: "ours", name: "localhost", last_year: 2001 },
        "expired",
    ),
    ("tls_downgraded", Impostor::Says(old_greeting), "over TLS"),
    ("tls_missing", Impostor::Says(plain_answer), "over TLS"),
];

/// A greeting of TLS 1.0: random octets, no session, `TLS_RSA_WITH_AES_128_CBC_SHA`.
fn old_greeting() -> Vec<u8> {
    let mut greeting = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    greeting.extend([7; 32]);
    greeting.extend([0, 0, 0x2f, 0]);
    greeting
}

fn plain_answer() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nX-ClickHouse-Server-Display-Name: s\r\nContent-Length: 0\r\n\r\n".to_vec()
}

/// A server that says the same to everybody, and counts them.
struct Talker {
    done: Arc<AtomicBool>,
    met: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Talker {
    fn start(address: SocketAddr, words: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let (done, met) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_done, count) = (done.clone(), met.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if is_done.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                // The other end may go at any time.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&words);
            }
        });
        Ok(Self { done, met, thread: Some(thread), address })
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        // Wakes it.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn an_impostor_gets_no_batch_and_the_store_gets_all_of_them() -> Result<()> {
    for (name, impostor, words) in faults::chosen(&IMPOSTORS, 1) {
        let (lab, store, folder) = (Lab::new()?, Store::start(), TempDir::new()?);
        let ours = Authority::new("ours");
        let ca = ours.file(folder.path(), "ca.pem");
        let good = ours.identity("localhost", FAR);
        let door = Door::open(store.url(), Some(good.acceptor(None)));
        let address = door.address();
        let url = format!("https://localhost:{}", address.port());
        let (interface, hasty) = (lab.left.spec("tc"), ["--idle-timeout", "1"]);
        let arguments = ["--interface", &interface, "--store", &url, "--ca-file", &ca];
        let more = ["--drain-interval", "50", "--active-timeout", "1"];
        let agent = Agent::start(&flow_agent(), &[&arguments[..], &hasty, &more].concat())?;
        let tally = Tally::start(&lab.left)?;
        let talk = || traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 50, 2, 40, 200);
        talk()?;
        let packets =
            || -> Result<u64> { Ok(stored::sums(store.url(), "flows")?.iter().step_by(2).sum()) };
        agent.wait_until("the first flows are stored", LIMIT, || Ok(packets()? == 200))?;

        drop(door);
        let (false_door, talker) = match impostor {
            Impostor::Certificate { authority, name, last_year } => {
                let other = Authority::new(authority);
                let signer = if *authority == "ours" { &ours } else { &other };
                let identity = signer.identity(name, *last_year);
                let tls = Some(identity.acceptor(None));
                (Some(Door::open_at(address, store.url(), tls)), None)
            }
            Impostor::Says(words) => (None, Some(Talker::start(address, words())?)),
        };
        talk()?;
        agent.wait_log(words, LIMIT).with_context(|| (*name).to_owned())?;
        ensure!(packets()? == 200, "{name}: something was stored through it");
        let met = talker.as_ref().map(|talker| talker.met.load(Ordering::Relaxed));
        drop((false_door, talker));
        let _door = Door::open_at(address, store.url(), Some(good.acceptor(None)));
        talk()?;
        agent.wait_until("everything is stored", LIMIT, || Ok(packets()? == 600))?;
        let wire = tally.stop()?;
        let log = agent.stop()?;
        rig::exact_at(store.url(), lab.left.interface, &wire)
            .inspect_err(|_| println!("the agent said:\n{log}"))?;
        let line = log.lines().find(|line| line.contains(words)).unwrap_or_default();
        let met = met.map_or(String::new(), |met| format!("; {met} connections"));
        let proof = format!("the log: {line}{met}");
        faults::record(name, &proof, Outcome::compare(store.url(), wire.total.packets)?)?;
    }
    Ok(())
}
