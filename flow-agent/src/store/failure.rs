//! A failed request as a client sees it: ClickHouse's code, text and HTTP status.

use hyper::StatusCode;

/// ClickHouse's numbers for the errors that this server raises itself.
pub mod code {
    /// `CHECKSUM_DOESNT_MATCH`
    pub const CHECKSUM_DOESNT_MATCH: i32 = 40;
    /// `BAD_ARGUMENTS`
    pub const BAD_ARGUMENTS: i32 = 36;
    /// `NOT_IMPLEMENTED`
    pub const NOT_IMPLEMENTED: i32 = 48;
    /// `LOGICAL_ERROR`
    pub const LOGICAL_ERROR: i32 = 49;
    /// `SYNTAX_ERROR`
    pub const SYNTAX_ERROR: i32 = 62;
    /// `UNKNOWN_FORMAT`
    pub const UNKNOWN_FORMAT: i32 = 73;
    /// `UNKNOWN_TYPE_OF_QUERY`
    pub const UNKNOWN_TYPE_OF_QUERY: i32 = 78;
    /// `UNKNOWN_COMPRESSION_METHOD`
    pub const UNKNOWN_COMPRESSION_METHOD: i32 = 89;
    /// `UNKNOWN_SETTING`
    pub const UNKNOWN_SETTING: i32 = 115;
    /// `READONLY`
    pub const READONLY: i32 = 164;
    /// `TOO_MANY_SIMULTANEOUS_QUERIES`
    pub const TOO_MANY_SIMULTANEOUS_QUERIES: i32 = 202;
    /// `NETWORK_ERROR`
    pub const NETWORK_ERROR: i32 = 210;
    /// `QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING`
    pub const QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING: i32 = 216;
    /// `CANNOT_DECOMPRESS`
    pub const CANNOT_DECOMPRESS: i32 = 271;
    /// `INTO_OUTFILE_NOT_ALLOWED`
    pub const INTO_OUTFILE_NOT_ALLOWED: i32 = 358;
    /// `QUERY_WAS_CANCELLED`
    pub const QUERY_WAS_CANCELLED: i32 = 394;
    /// `ABORTED`
    pub const ABORTED: i32 = 236;
    /// `SESSION_NOT_FOUND`
    pub const SESSION_NOT_FOUND: i32 = 372;
    /// `SESSION_IS_LOCKED`
    pub const SESSION_IS_LOCKED: i32 = 373;
    /// `QUERY_IS_TOO_LARGE`
    pub const QUERY_IS_TOO_LARGE: i32 = 223;
    /// `UNKNOWN_ROLE`
    pub const UNKNOWN_ROLE: i32 = 511;
    /// `AUTHENTICATION_FAILED`
    pub const AUTHENTICATION_FAILED: i32 = 516;
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// ClickHouse's error code.
    pub code: i32,
    /// The whole text, starting with `Code: N. DB::Exception: `, without the version.
    pub text: String,
}

impl Failure {
    /// An error of the server's own, in ClickHouse's words.
    pub fn new(code: i32, name: &str, message: impl std::fmt::Display) -> Self {
        Self { code, text: format!("Code: {code}. DB::Exception: {message}. ({name})") }
    }

    /// A text from the engine.
    pub fn from_engine(text: &str) -> Self {
        // Some of the engine's texts end with its version and some do not; the
        // response adds it to all.
        let text = match text.rfind(" (version ") {
            Some(at) => &text[..at],
            None => text.trim_end(),
        };
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split('.').next())
            .and_then(|number| number.parse().ok());
        match code {
            Some(code) => Self { code, text: text.to_owned() },
            None => Self::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", text),
        }
    }

    /// The body of the response, as ClickHouse writes it.
    pub fn body(&self, version: &str) -> String {
        format!("{} (version {version} (official build))\n", self.text)
    }

    /// The HTTP status that ClickHouse gives this code.
    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 166 | 167
            | 168 | 321 | 397 | 427 | 441 | 560 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => {
                StatusCode::NOT_FOUND
            }
            223 => StatusCode::PAYLOAD_TOO_LARGE,
            48 => StatusCode::NOT_IMPLEMENTED,
            // 202 is 500 in ClickHouse; 503 is what balancers and clients wait at.
            76 | 202 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            381 => StatusCode::LENGTH_REQUIRED,
            159 => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_text_gives_code_and_status() {
        let failure = Failure::from_engine(
            "Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE) (version 26.7.2.1)",
        );
        assert_eq!(failure.code, 60);
        assert_eq!(failure.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            failure.body("26.7.2.1"),
            "Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE) (version 26.7.2.1 (official build))\n"
        );
    }

    #[test]
    fn statuses_follow_clickhouse() {
        for (code, status) in
            [(62, 400), (27, 400), (516, 403), (194, 401), (115, 404), (48, 501), (241, 500)]
        {
            let failure = Failure::new(code, "X", "x");
            assert_eq!(failure.status().as_u16(), status, "code {code}");
        }
    }

    #[test]
    fn a_text_without_a_code_is_still_an_exception() {
        let failure = Failure::from_engine("Invalid insert stream");
        assert_eq!(failure.code, code::LOGICAL_ERROR);
        assert!(failure.text.starts_with("Code: 49. DB::Exception: Invalid insert stream"));
    }
}
