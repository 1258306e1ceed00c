//! Bends inputs without looking at what they do: for the bounded run on every commit, which is
//! the same each time. Coverage guides `cargo xtask fuzz`.

use crate::wild::Dice;

/// Octets at which readers decide.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b';'];

/// One of the inputs, bent a few times.
pub fn mutated(dice: &mut Dice, inputs: &[Vec<u8>], most: usize) -> Vec<u8> {
    let any = |dice: &mut Dice| &inputs[dice.below(inputs.len())];
    let mut octets = any(dice).clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(octets.len() + 1);
        let end = (at + 1 + dice.below(16)).min(octets.len());
        match dice.below(8) {
            0 if at < octets.len() => octets[at] ^= 1 << dice.below(8),
            1 if at < octets.len() => octets[at] = dice.byte(),
            2 if at < octets.len() => octets[at] = dice.pick(&EDGES),
            3 => octets.truncate(at),
            4 => drop(octets.drain(at..end)),
            5 => octets.extend_from_within(at..end),
            6 => {
                let other = any(dice);
                let from = dice.below(other.len() + 1);
                let to = (from + 1 + dice.below(64)).min(other.len());
                drop(octets.splice(at..at, other[from..to].to_vec()));
            }
            _ => octets.insert(at, dice.pick(&EDGES)),
        }
    }
    octets.truncate(most);
    octets
}
