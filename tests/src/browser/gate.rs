//! A gate in front of an agent: who asks its API without the token is refused, everything else
//! goes through as it is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What it says to others; browsers ask for a password of their own when they are let.
const REFUSAL: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer, Basic\r\n\
    Content-Type: application/json\r\nConnection: close\r\n\r\n{\"error\":\"a token is needed\"}";

/// The gate; it closes when it is dropped.
pub struct Gate {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
}

impl Gate {
    /// In front of the agent at `IP:PORT`.
    pub fn start(agent: &str, token: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let closed = Arc::new(AtomicBool::new(false));
        let (is_closed, agent) = (closed.clone(), agent.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_closed.load(Ordering::Relaxed) {
                    return;
                }
                let agent = agent.clone();
                // A client that goes away is its own affair.
                thread::spawn(move || drop(serve(&client, &agent, token)));
            }
        });
        Ok(Self { address, closed })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // It hears of that with the next client.
        drop(TcpStream::connect(self.address));
    }
}

/// One request without a body, and its answer.
fn serve(mut client: &TcpStream, agent: &str, token: &str) -> io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(client);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let shown = head.to_lowercase().contains(&format!("\r\nauthorization: bearer {token}\r\n"));
    if head.starts_with("GET /api/") && !shown {
        client.write_all(REFUSAL)?;
        return client.shutdown(Shutdown::Write);
    }
    let mut server = TcpStream::connect(agent)?;
    server.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)
}
