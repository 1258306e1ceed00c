//! `multipart/form-data` bodies: enters a whole (bounded) body, leaves its
//! fields. Clients send `query` and `param_*` this way to keep them out of URLs.

use super::failure::{Failure, code};

/// The fields of a form, in order.
pub fn fields(body: &[u8], boundary: &str) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let bad = |what: &str| {
        Failure::new(
            code::BAD_ARGUMENTS,
            "BAD_ARGUMENTS",
            format_args!("Bad multipart body: {what}"),
        )
    };
    let delimiter = format!("--{boundary}");
    let mut fields = Vec::new();
    let start = find(body, delimiter.as_bytes()).ok_or_else(|| bad("the boundary is missing"))?;
    let mut rest = &body[start + delimiter.len()..];
    let next_delimiter = format!("\r\n{delimiter}");
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").ok_or_else(|| bad("no line end after the boundary"))?;
        let head_end =
            find(rest, b"\r\n\r\n").ok_or_else(|| bad("a part has no end of headers"))?;
        let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
        rest = &rest[head_end + 4..];
        let end =
            find(rest, next_delimiter.as_bytes()).ok_or_else(|| bad("the last part has no end"))?;
        let name = attribute(&head, "name").ok_or_else(|| bad("a part has no name"))?;
        if attribute(&head, "filename").is_some() {
            return Err(Failure::new(
                code::NOT_IMPLEMENTED,
                "NOT_IMPLEMENTED",
                "External tables are not supported by the embedded store: insert the data into a table first",
            ));
        }
        fields.push((name, rest[..end].to_vec()));
        rest = &rest[end + next_delimiter.len()..];
    }
    Ok(fields)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// An attribute of the part's Content-Disposition header.
fn attribute(head: &str, wanted: &str) -> Option<String> {
    let line =
        head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    line.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clickhouse_crates_form_is_read() {
        let body = "--b1\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:String}\r\n--b1\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\nx\r\ny\r\n--b1--\r\n";
        let fields = fields(body.as_bytes(), "b1").unwrap();
        assert_eq!(
            fields,
            [
                ("query".to_owned(), b"SELECT {a:String}".to_vec()),
                ("param_a".to_owned(), b"x\r\ny".to_vec())
            ]
        );
    }

    #[test]
    fn a_cut_form_is_refused() {
        for body in
            ["", "--b1", "--b1\r\n", "--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx"]
        {
            assert!(fields(body.as_bytes(), "b1").is_err(), "{body:?}");
        }
    }
}
