//! One client's connection: its requests one after the other, each with a connection of its own
//! to the store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::framing::Body;
use super::incoming::Incoming;
use super::server::Shared;
use super::{Fault, Request};

/// As much of a statement in a body as scripts are shown.
const SHOWN: usize = 4_096;
/// Pieces a second of what is slow.
const SLOW_PIECES: u64 = 20;

/// What becomes of a connection after a request.
enum Next {
    /// Another request may come.
    Request,
    /// It ends as connections end.
    Close,
    /// It is reset.
    Reset,
}

/// Serves a connection until it ends.
pub(super) async fn serve(mut client: TcpStream, shared: Arc<Shared>, fault: Option<Fault>) {
    // Refused only for a socket that is gone.
    let _ = client.set_nodelay(true);
    let next = match fault {
        Some(fault) => first(&mut client, &shared, &fault).await,
        None => requests(&mut client, &shared).await,
    };
    match next {
        // What a client has not read yet still reaches it.
        Ok(Next::Request | Next::Close) => drop(client.shutdown().await),
        Ok(Next::Reset) | Err(_) => reset(&client),
    }
}

/// The connection's end will be a reset.
fn reset(stream: &TcpStream) {
    // Refused only for a socket that is gone.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// A fault of the connection itself.
async fn first(client: &mut TcpStream, shared: &Shared, fault: &Fault) -> io::Result<Next> {
    shared.fired.add(fault.name());
    match fault {
        Fault::Hello(octets) => {
            let mut hello = [0; 4_096];
            if client.read(&mut hello).await? > 0 {
                client.write_all(octets).await?;
            }
            Ok(Next::Close)
        }
        Fault::Hang => {
            let (read, _) = client.split();
            Incoming::new(read).until_closed().await?;
            Ok(Next::Close)
        }
        Fault::Instead(answer) => {
            answer.write(client).await?;
            Ok(Next::Close)
        }
        _ => Ok(Next::Reset),
    }
}

async fn requests(client: &mut TcpStream, shared: &Shared) -> io::Result<Next> {
    let (read, mut write) = client.split();
    let mut read = Incoming::new(read);
    while let Some(head) = read.head().await? {
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(&head).into_owned();
        let body = Body::of(&text, Body::Length(0));
        let mut request = Request::new(number, &text, &[]);
        if !request.is_insert() {
            request = Request::new(number, &text, read.peek(&body, SHOWN).await?);
        }
        let fault = shared.of_request(&request);
        let exchange = Exchange { shared, head, body, client: &mut read, answer: &mut write };
        match exchange.run(fault).await? {
            Next::Request => {}
            next => return Ok(next),
        }
    }
    Ok(Next::Close)
}

/// One request and its answer.
struct Exchange<'a, 'c> {
    shared: &'a Shared,
    head: Vec<u8>,
    body: Body,
    client: &'a mut Incoming<ReadHalf<'c>>,
    answer: &'a mut WriteHalf<'c>,
}

impl Exchange<'_, '_> {
    async fn run(mut self, fault: Option<Fault>) -> io::Result<Next> {
        let Some(fault) = fault else { return self.pass(None).await };
        match &fault {
            Fault::Reset => {
                self.fired(&fault);
                Ok(Next::Reset)
            }
            Fault::Hang | Fault::Hello(_) => {
                self.fired(&fault);
                self.client.until_closed().await?;
                Ok(Next::Close)
            }
            Fault::Instead(answer) => {
                while self.client.piece(&mut self.body).await?.is_some() {}
                self.fired(&fault);
                answer.write(self.answer).await?;
                Ok(Next::Close)
            }
            Fault::Slow { rate } => {
                self.fired(&fault);
                self.pass(Some(*rate)).await
            }
            Fault::Stall { after } | Fault::CutRequest { after } => {
                let mut store = self.send_until(*after).await?;
                self.fired(&fault);
                if matches!(fault, Fault::Stall { .. }) {
                    // A store that is killed meanwhile is no secret of the proxy.
                    let mut answer = [0; 1];
                    tokio::select! {
                        closed = self.client.until_closed() => closed?,
                        _ = store.read(&mut answer) => {}
                    }
                }
                reset(&store);
                Ok(Next::Reset)
            }
            Fault::CutAnswer { after } => {
                let (_, answer) = self.ask().await?;
                let end = (*after).min(answer.len() as u64 - 1) as usize;
                self.answer.write_all(&answer[..end]).await?;
                self.fired(&fault);
                Ok(Next::Close)
            }
            Fault::DropReply => {
                if self.ask().await?.0 {
                    self.fired(&fault);
                }
                Ok(Next::Reset)
            }
            Fault::DelayReply(delay) => {
                let (_, answer) = self.ask().await?;
                self.fired(&fault);
                tokio::select! {
                    () = tokio::time::sleep(*delay) => self.answer.write_all(&answer).await?,
                    closed = self.client.until_closed() => closed?,
                }
                Ok(Next::Close)
            }
            Fault::After(answer) => {
                if self.ask().await?.0 {
                    self.fired(&fault);
                }
                answer.write(self.answer).await?;
                Ok(Next::Close)
            }
        }
    }

    fn fired(&self, fault: &Fault) {
        self.shared.fired.add(fault.name());
    }

    /// A connection to the store.
    async fn store(&self) -> io::Result<TcpStream> {
        let store = TcpStream::connect(&self.shared.store).await?;
        store.set_nodelay(true)?;
        Ok(store)
    }

    /// Sends the request but for all that comes after so many octets of its body, or for its last
    /// octet if that comes sooner.
    async fn send_until(&mut self, after: u64) -> io::Result<TcpStream> {
        let mut store = self.store().await?;
        store.write_all(&self.head).await?;
        let mut left = after;
        let mut held = Vec::new();
        while left > 0
            && let Some(piece) = self.client.piece(&mut self.body).await?
        {
            store.write_all(&held).await?;
            held = piece;
            let end = left.min(held.len() as u64);
            left -= end;
            held.truncate(end as usize);
        }
        if self.body.ended() {
            held.pop();
        }
        store.write_all(&held).await?;
        Ok(store)
    }

    /// Sends the whole request and reads the whole answer; whether it is a 200, and its octets.
    async fn ask(&mut self) -> io::Result<(bool, Vec<u8>)> {
        let mut store = self.store().await?;
        store.write_all(&self.head).await?;
        while let Some(piece) = self.client.piece(&mut self.body).await? {
            store.write_all(&piece).await?;
        }
        let (read, _write) = store.split();
        let mut read = Incoming::new(read);
        let mut answer = read.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let mut body = Body::of(&text, Body::UntilClose);
        while let Some(piece) = read.piece(&mut body).await? {
            answer.extend(piece);
        }
        Ok((text.split(' ').nth(1) == Some("200"), answer))
    }

    /// Request to the store, answer to the client; as slow as told.
    async fn pass(mut self, rate: Option<u64>) -> io::Result<Next> {
        let mut store = self.store().await?;
        let (read, mut write) = store.split();
        let mut read = Incoming::new(read);
        // Whether all was sent; an error is one of the client, which has gone.
        let send = async {
            let mut sent = paced(&mut write, &self.head, rate).await;
            while let Some(piece) = self.client.piece(&mut self.body).await? {
                if sent.is_ok() {
                    sent = paced(&mut write, &piece, rate).await;
                }
            }
            io::Result::Ok(sent.is_ok())
        };
        let mut send = std::pin::pin!(send);
        // A store may answer before it has the whole request.
        let (sent, head) = tokio::select! {
            // A store that waits for the rest is not to wait for a client that has gone.
            sent = &mut send => (sent?, read.head().await?),
            head = read.head() => (false, head?),
        };
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        paced(self.answer, &head, rate).await?;
        let text = String::from_utf8_lossy(&head);
        let mut body = Body::of(&text, Body::UntilClose);
        while let Some(piece) = read.piece(&mut body).await? {
            paced(self.answer, &piece, rate).await?;
        }
        let closes = body == Body::UntilClose || text.to_lowercase().contains("connection: close");
        Ok(if sent && !closes { Next::Request } else { Next::Close })
    }
}

/// Writes with so many octets a second.
async fn paced(to: &mut WriteHalf<'_>, octets: &[u8], rate: Option<u64>) -> io::Result<()> {
    let Some(rate) = rate else { return to.write_all(octets).await };
    let piece = (rate / SLOW_PIECES).max(1);
    for octets in octets.chunks(piece as usize) {
        to.write_all(octets).await?;
        let share = octets.len() as f64 / rate.max(1) as f64;
        tokio::time::sleep(Duration::from_secs_f64(share)).await;
    }
    Ok(())
}
