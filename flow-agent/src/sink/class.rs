//! What may help against an error of the store.

use super::SinkError;

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nothing has left this host; another try may.
    NotSent,
    /// Time.
    Transient,
    /// Somebody has to do something about the store or its tables.
    Held,
    /// Nothing, with these rows together.
    Rows,
}

/// ClickHouse error codes that pass (src/Common/ErrorCodes.cpp): data cut short, timeout, too
/// many queries or threads, no free connection, network and sockets, a query id in use, broken
/// pipe, memory limit, read-only table, too many parts, no space, no Keeper, a cancelled query,
/// restarting and shutting down, no live replica, quorum.
const TRANSIENT_CODES: [u32; 34] = [
    3, 23, 32, 33, 76, 95, 99, 101, 159, 160, 164, 198, 202, 203, 209, 210, 216, 236, 241, 242,
    243, 252, 279, 285, 286, 289, 319, 394, 425, 439, 473, 667, 739, 999,
];

/// Codes that tell of the rows: what a text or number cannot be, values out of range, a CHECK
/// that is violated, a view that throws on a value.
const ROW_CODES: [u32; 14] = [6, 26, 27, 38, 41, 69, 72, 117, 131, 321, 349, 395, 469, 691];

impl Class {
    /// Of an error.
    pub fn of(error: &SinkError) -> Self {
        match error {
            SinkError::Refused { problem, .. } => Self::of_refusal(error.code(), problem),
            SinkError::Tls { .. } | SinkError::Strange { .. } => Self::Held,
            error if error.was_never_sent() => Self::NotSent,
            error if error.is_transient() => Self::Transient,
            _ => Self::Held,
        }
    }

    /// Of an error answer; with an unknown one the rows are kept, and people told.
    fn of_refusal(code: Option<u32>, problem: &str) -> Self {
        match code {
            // Both are number 252: too many partitions are in the rows, too many parts pass.
            Some(252) if problem.contains("oo many partitions") => Self::Rows,
            Some(code) if TRANSIENT_CODES.contains(&code) => Self::Transient,
            Some(code) if ROW_CODES.contains(&code) => Self::Rows,
            Some(_) => Self::Held,
            None => match status_code(problem) {
                Some(401 | 403 | 404 | 407) => Self::Held,
                _ => Self::Transient,
            },
        }
    }
}

/// The number in `503 Service Unavailable`, which an answer without a text becomes.
fn status_code(text: &str) -> Option<u16> {
    let (number, _) = text.trim_start_matches("bad response: ").split_once(' ')?;
    number.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_may_help() {
        for (problem, class) in [
            ("Code: 252. Too many parts (300)", Class::Transient),
            ("Code: 252. Too many partitions for single INSERT block", Class::Rows),
            ("Code: 241. Memory limit exceeded", Class::Transient),
            ("Code: 243. Cannot reserve 1 MiB, not enough space", Class::Transient),
            ("Code: 242. Table is in readonly mode", Class::Transient),
            ("Code: 60. Unknown table", Class::Held),
            ("Code: 16. No such column", Class::Held),
            ("Code: 81. Database flow does not exist", Class::Held),
            ("Code: 497. Not enough privileges", Class::Held),
            ("Code: 516. Authentication failed", Class::Held),
            ("Code: 987654. something new", Class::Held),
            ("Code: 469. Constraint `c` is violated at row 1", Class::Rows),
            ("Code: 27. Cannot parse input", Class::Rows),
            ("Code: 241", Class::Transient),
            ("503 Service Unavailable", Class::Transient),
            ("401 Unauthorized", Class::Held),
            ("<html>Bad Gateway</html>", Class::Transient),
            ("", Class::Transient),
        ] {
            let (address, what) = (String::new(), String::new());
            let error = SinkError::Refused { address, what, problem: problem.into() };
            assert_eq!(Class::of(&error), class, "{problem}");
        }
    }

    #[test]
    fn no_answer_passes_and_no_connection_has_sent_nothing() {
        let address = String::new;
        let error = SinkError::Unreachable { address: address(), problem: address() };
        assert_eq!(Class::of(&error), Class::Transient);
        let error = SinkError::NoConnection { address: address(), problem: address() };
        assert_eq!(Class::of(&error), Class::NotSent);
        let error = SinkError::Strange { address: address(), problem: address() };
        assert_eq!(Class::of(&error), Class::Held);
        let error = SinkError::NewerSchema { address: address(), found: 2, known: 1 };
        assert_eq!(Class::of(&error), Class::Held);
    }
}
