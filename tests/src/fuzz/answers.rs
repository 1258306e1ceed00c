//! What a ClickHouse server answers: the verdict does not depend on how the octets arrive, what
//! ClickHouse did not write is never believed, and an error's text becomes one line.

use flow_agent::fuzz::sink::{answers, refusal};
use flow_agent::sink::Class;

use super::take;

/// The first octet says in pieces of how many octets they come.
pub fn run(mut octets: &[u8]) {
    let piece = 1 + usize::from(take(&mut octets));
    // A head is looked at when one of its lines ends: the last one ends here.
    let ended = [octets, b"\n"].concat();
    let whole = answers([&ended[..]]);
    let in_pieces = answers(ended.chunks(piece));
    let by_octets = answers(ended.chunks(1));
    assert_eq!(whole, in_pieces, "in pieces of {piece} octets");
    assert_eq!(whole, by_octets, "octet by octet");
    if whole.is_ok() {
        believed(octets);
    }
    let text = String::from_utf8_lossy(octets);
    let (line, code, passes, class) = refusal(&text);
    assert!(!line.contains('\n'), "{line:?}");
    // An error that may pass by itself never has its rows put aside.
    assert!(!(passes && class == Class::Rows) || code == Some(252), "{line:?}");
}

/// A head with a final status and without ClickHouse's mark is not let through.
fn believed(octets: &[u8]) {
    let Some(end) = octets.windows(4).position(|window| window == b"\r\n\r\n") else { return };
    let head = String::from_utf8_lossy(&octets[..end]).to_ascii_lowercase();
    let informs = head.get(9..10) == Some("1");
    assert!(informs || head.contains("x-clickhouse-"), "believed: {head}");
}
