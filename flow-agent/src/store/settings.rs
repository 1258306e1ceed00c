//! Which URL parameters are the engine's settings: enters names and values,
//! leaves one `SET` statement. What the server itself consumes never gets there.

use super::failure::{Failure, code};

/// Parameters of the HTTP interface, not settings of the engine.
const SERVER_OWN: [&str; 29] = [
    "query",
    "database",
    "default_format",
    "user",
    "password",
    "quota_key",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "role",
    "compress",
    "decompress",
    "stacktrace",
    "client_protocol_version",
    "wait_end_of_query",
    "buffer_size",
    "enable_http_compression",
    "http_zlib_compression_level",
    "http_native_compression_disable_checksumming_on_decompress",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "http_write_exception_in_output_format",
    "http_response_headers",
    "add_http_cors_header",
    "cancel_http_readonly_queries_on_client_close",
    // Carries the query id to the engine; see `query_ids`.
    "log_comment",
    // GET is read-only by the kind of statement.
    "readonly",
];

/// Whether the server consumes this parameter.
pub fn is_server_own(name: &str) -> bool {
    SERVER_OWN.contains(&name) || name.starts_with("param_")
}

/// A quoted SQL string.
pub fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// The statement that applies the settings to a connection.
pub fn set_statement(query_id: &str, settings: &[(String, String)]) -> Result<String, Failure> {
    let mut sql = format!("SET log_comment = {}", quote(query_id));
    for (name, value) in settings {
        check_name(name)?;
        sql.extend([", ", name, " = ", &quote(value)]);
    }
    Ok(sql)
}

/// The statement that puts a session's settings back after a request.
pub fn reset_statement(settings: &[(String, String)]) -> String {
    let mut sql = "SET log_comment = DEFAULT".to_owned();
    for (name, _) in settings {
        sql.extend([", ", name, " = DEFAULT"]);
    }
    sql
}

fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty()
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Ok(());
    }
    Err(Failure::new(
        code::UNKNOWN_SETTING,
        "UNKNOWN_SETTING",
        format_args!("Unknown setting '{name}' in the URL"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_quoted_and_names_checked() {
        let settings = [("max_threads".to_owned(), "1'; DROP\\".to_owned())];
        assert_eq!(
            set_statement("q'", &settings).unwrap(),
            "SET log_comment = 'q\\'', max_threads = '1\\'; DROP\\\\'"
        );
        for name in ["a=1, b", "", "1a", "a b", "é"] {
            let refused = set_statement("q", &[(name.to_owned(), String::new())]).unwrap_err();
            assert_eq!(refused.code, code::UNKNOWN_SETTING, "{name}");
        }
    }

    #[test]
    fn the_servers_own_parameters_stay_here() {
        for name in ["query", "param_x", "wait_end_of_query", "session_id", "log_comment"] {
            assert!(is_server_own(name), "{name}");
        }
        for name in ["max_threads", "insert_deduplication_token", "async_insert"] {
            assert!(!is_server_own(name), "{name}");
        }
    }
}
