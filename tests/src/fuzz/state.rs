//! The saved state: refused with a reason, or read to what is written the same again.

use flow_agent::fuzz::spool::checksum;
use flow_agent::fuzz::state::{octets, parse, part};

use super::take;

/// The first octet says whether the rest is a file, or what a file holds between its header and
/// its checksum.
pub fn run(mut input: &[u8]) {
    let file = if take(&mut input) & 1 == 0 { input.to_vec() } else { around(input) };
    let state = match parse(&file) {
        Ok(state) => state,
        Err(problem) => {
            assert!(problem.to_string().contains("fuzz"), "{problem}");
            return;
        }
    };
    for (name, (_, kept)) in &state.parts {
        match part(name, kept) {
            // An item has an octet at least.
            Ok(items) => assert!(items.unwrap_or(0) <= kept.len()),
            Err(problem) => assert!(!problem.is_empty()),
        }
    }
    assert_eq!(parse(&octets(&state)).expect("what is written is read"), state);
}

/// A whole file around a state.
fn around(state: &[u8]) -> Vec<u8> {
    let mut file = b"FLOWSTAT\x01\0\0\0".to_vec();
    file.extend((state.len() as u64).to_le_bytes());
    file.extend(state);
    file.extend(checksum(&file).to_le_bytes());
    file
}
