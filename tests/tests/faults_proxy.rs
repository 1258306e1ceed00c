//! The proxy of the fault tests does what its faults are called. Needs libchdb, not root.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flow_tests::proxy::{Answer, Fault, Proxy, Schedule};
use flow_tests::raw_http::{self, Answer as Answered};
use flow_tests::store::{Store, tsv};

/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(300);

/// A store with an empty table `t`, and a proxy before it.
struct Front {
    store: Store,
    proxy: Proxy,
}

impl Front {
    fn new() -> Self {
        let store = Store::start();
        store.create("t", 100);
        let proxy = Proxy::start(store.url()).expect("a port is free");
        Self { store, proxy }
    }

    /// Inserts ten rows under this token, with this fault.
    fn insert(&self, token: &str, fault: Option<Fault>) -> std::io::Result<Answered> {
        self.proxy.on_request(move |_| fault.clone());
        let target = format!(
            "/?query=INSERT+INTO+t+FORMAT+TSV&insert_deduplication_token={token}&wait_end_of_query=1"
        );
        let body = tsv(0..10);
        raw_http::try_send(&self.proxy.url(), "POST", &target, &[], body.as_bytes())
    }

    /// Rows there after each fault, under tokens of their own; whether an answer came, and which.
    fn after(&self, fault: Fault) -> (u64, Option<u16>) {
        self.store.sql("TRUNCATE TABLE t");
        let (name, before) = (fault.name(), self.proxy.fired().of(fault.name()));
        let token = format!("{name}-{before}").replace(' ', "-");
        let answer = self.insert(&token, Some(fault));
        assert_eq!(self.proxy.fired().of(name), before + 1, "{name} has not happened");
        (self.store.count("t"), answer.ok().map(|answer| answer.status))
    }
}

#[test]
fn without_a_fault_everything_passes() {
    let front = Front::new();
    let answer = front.insert("plain", None).expect("an answer");
    assert_eq!((answer.status, front.store.count("t")), (200, 10));
    let select = "SELECT * FROM t ORDER BY id";
    let direct = raw_http::post(front.store.url(), "/", select.as_bytes());
    let through = raw_http::post(&front.proxy.url(), "/", select.as_bytes());
    assert_eq!((through.status, &through.body), (direct.status, &direct.body));
    assert!(through.whole && !through.body.is_empty());
    // Two chunked requests over one connection.
    let mut stream = raw_http::connect(&front.proxy.url());
    for last in ["", "Connection: close\r\n"] {
        let head =
            format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).expect("is read");
        stream.write_all(b"7\r\nSELECT \r\n1\r\n1\r\n0\r\n\r\n").expect("is read");
    }
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("answers");
    assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
    assert_eq!((front.proxy.fired().total(), front.proxy.requests()), (0, 4));
    front.store.stop();
}

#[test]
fn each_fault_does_what_it_is_called() {
    let front = Front::new();
    let whole = tsv(0..10).len() as u64;
    assert_eq!(front.after(Fault::Reset), (0, None));
    for after in [0, 1, whole - 1, whole, u64::MAX] {
        assert_eq!(front.after(Fault::CutRequest { after }), (0, None), "cut at {after}");
    }
    assert_eq!(front.after(Fault::DropReply), (10, None));
    assert_eq!(front.after(Fault::CutAnswer { after: 0 }), (10, None));
    assert_eq!(front.after(Fault::CutAnswer { after: 20 }), (10, None));
    assert_eq!(front.after(Fault::Slow { rate: 2_000 }), (10, Some(200)));
    assert_eq!(front.after(Fault::DelayReply(A_WHILE)), (10, Some(200)));
    assert_eq!(front.after(Fault::Instead(Answer::Exception(252))), (0, Some(500)));
    assert_eq!(front.after(Fault::Instead(Answer::Page)), (0, Some(200)));
    assert_eq!(front.after(Fault::Instead(Answer::Garbage)), (0, None));
    assert_eq!(front.after(Fault::After(Answer::Status(503))), (10, Some(503)));
    // The store refuses: nothing was committed, so no reply to a commit was dropped.
    let target = "/?query=INSERT+INTO+nowhere+FORMAT+TSV";
    let (url, before) = (front.proxy.url(), front.proxy.fired().of("drop reply"));
    front.proxy.on_request(|_| Some(Fault::DropReply));
    assert!(raw_http::try_send(&url, "POST", target, &[], b"1\tx\n").is_err());
    assert_eq!(front.proxy.fired().of("drop reply"), before);
    front.store.stop();
}

#[test]
fn what_hangs_hangs_until_the_client_goes() {
    let front = Front::new();
    for fault in [Fault::Hang, Fault::Stall { after: 5 }] {
        let name = fault.name();
        front.proxy.on_request(move |_| Some(fault.clone()));
        let mut stream = raw_http::connect(&front.proxy.url());
        stream.set_read_timeout(Some(A_WHILE)).expect("a socket");
        let head = "POST /?query=INSERT+INTO+t+FORMAT+TSV HTTP/1.1\r\nHost: x\r\n";
        stream
            .write_all(format!("{head}Content-Length: 4\r\n\r\n1\tx\n").as_bytes())
            .expect("sent");
        let error = stream.read(&mut [0; 1]).expect_err("nothing comes");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert_eq!(front.proxy.fired().of(name), 1);
    }
    assert_eq!(front.store.count("t"), 0);
    front.store.stop();
}

#[test]
fn connections_are_refused_reset_or_greeted_as_told() {
    let front = Front::new();
    front.proxy.refuse().expect("it runs");
    let refused = TcpStream::connect(front.proxy.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    front.proxy.accept().expect("its port is free");
    front.proxy.on_connection(|number| match number {
        0 => Some(Fault::Reset),
        1 => Some(Fault::Hello(vec![0x15, 3, 1, 0, 2, 2, 40])),
        _ => None,
    });
    assert!(raw_http::try_send(&front.proxy.url(), "GET", "/ping", &[], &[]).is_err());
    let mut stream = raw_http::connect(&front.proxy.url());
    stream.write_all(&[0x16, 3, 1]).expect("is read");
    let mut greeting = Vec::new();
    stream.read_to_end(&mut greeting).expect("it ends");
    assert_eq!(greeting, [0x15, 3, 1, 0, 2, 2, 40]);
    let answer = raw_http::send(&front.proxy.url(), "GET", "/ping", &[], &[]);
    assert_eq!((answer.status, answer.text().trim()), (200, "Ok."));
    assert_eq!(front.proxy.fired().total(), 2);
    front.store.stop();
}

#[test]
fn a_huge_answer_is_as_long_as_told() {
    const OCTETS: u64 = 20_000_001;
    let front = Front::new();
    front.proxy.on_request(|_| {
        Some(Fault::Instead(Answer::Huge { status: 500, octets: OCTETS, marked: true }))
    });
    let answer = raw_http::post(&front.proxy.url(), "/", b"SELECT 1");
    assert_eq!((answer.status, answer.body.len() as u64), (500, OCTETS));
    front.store.stop();
}

#[test]
fn the_same_seed_decides_the_same() {
    let decide = |seed| {
        let mut schedule = Schedule::new(seed, 2);
        (0..100).map(|_| schedule.next_fault()).collect::<Vec<_>>()
    };
    assert_eq!(decide(1), decide(1));
    assert_ne!(decide(1), decide(2));
    let faults: Vec<_> = decide(3).into_iter().flatten().collect();
    assert!((30..70).contains(&faults.len()), "{} of 100", faults.len());
}
