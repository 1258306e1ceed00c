//! Answers cut at every place.

use proptest::prelude::*;

use super::*;

const MARKED: &str = "X-ClickHouse-Query-Id: q\r\n";

/// An answer with this body, in one of the ways in which HTTP says where it ends.
fn answer(status: u16, framing: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = format!("HTTP/1.1 {status} x\r\n{MARKED}").into_bytes();
    if framing == 0 {
        octets.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        octets.extend(body);
        return octets;
    }
    octets.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(7) {
        octets.extend(format!("{:x};e=1\r\n", chunk.len()).bytes());
        octets.extend(chunk);
        octets.extend(b"\r\n");
    }
    octets.extend(if framing == 1 { &b"0\r\n\r\n"[..] } else { b"0\r\nX: y\r\n\r\n" });
    octets
}

/// Gives the octets in pieces of these sizes, again and again.
fn feed(answers: &mut Answers, mut octets: &[u8], sizes: &[usize]) -> Result<(), Strange> {
    for size in sizes.iter().cycle() {
        if octets.is_empty() {
            break;
        }
        let (piece, rest) = octets.split_at((*size).min(octets.len()));
        answers.read(piece)?;
        octets = rest;
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_end_of_each_answer_is_found(
        bodies in prop::collection::vec((0u8..3, prop::collection::vec(any::<u8>(), 0..60)), 1..6),
        sizes in prop::collection::vec(1usize..40, 1..9),
    ) {
        let mut octets = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        for (framing, body) in &bodies {
            octets.extend(answer(200, *framing, body));
        }
        let mut answers = Answers::default();
        prop_assert_eq!(feed(&mut answers, &octets, &sizes), Ok(()));
        prop_assert!(matches!(&answers.state, State::Head(head) if head.is_empty()));
        // So the next one is looked at again, whatever was in the bodies.
        let strange = feed(&mut answers, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &sizes);
        prop_assert_eq!(strange, Err(Strange::NotClickHouse { status: 200 }));
    }

    #[test]
    fn nothing_makes_it_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut answers = Answers::default();
        let _ = answers.read(&octets);
        let mut answers = Answers::default();
        answers.read(format!("HTTP/1.1 200 OK\r\n{MARKED}Transfer-Encoding: chunked\r\n\r\n")
            .as_bytes()).expect("a head");
        let _ = answers.read(&octets);
    }
}

#[test]
fn only_errors_have_a_bound() {
    for (framing, length) in [(0, 64 << 10), (0, (64 << 10) + 1), (1, 60 << 10), (1, 200 << 10)] {
        let body = vec![b'x'; length];
        let right = Answers::default().read(&answer(200, framing, &body));
        assert_eq!(right, Ok(()), "{length}");
        let wrong = feed(&mut Answers::default(), &answer(500, framing, &body), &[4096]);
        // A chunked body has its framing in the count.
        let fits = framing == 0 && length as u64 <= MOST_ERROR;
        assert_eq!(wrong, if fits { Ok(()) } else { Err(Strange::LongError) }, "{length}");
    }
    let mut late = format!("HTTP/1.1 200 OK\r\n{MARKED}X-ClickHouse-Exception-Code: 60\r\n\r\n");
    late.extend(std::iter::repeat_n('x', 70_000));
    assert_eq!(Answers::default().read(late.as_bytes()), Err(Strange::LongError));
}

#[test]
fn what_is_not_clickhouse_is_told() {
    for (octets, strange) in [
        (
            &b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 3\r\n\r\nabc"[..],
            Strange::NotClickHouse { status: 200 },
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Strange::NotClickHouse { status: 502 }),
        (b"\x15\x03\x03\x00\x02\x02\x0a", Strange::NotHttp),
        (b"220 smtp.example ESMTP\r\n", Strange::NotHttp),
    ] {
        assert_eq!(feed(&mut Answers::default(), octets, &[1]), Err(strange));
    }
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; MOST_HEAD]].concat();
    assert_eq!(feed(&mut Answers::default(), &endless, &[999]), Err(Strange::LongHead));
}
