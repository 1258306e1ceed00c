//! Reports as one page of HTML that needs nothing else: no script, no font, no address.

use std::fmt::Write as _;

use super::text::shown;
use super::{Kind, Report, chart};

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:75rem;padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .7rem;border-bottom:1px solid #8886;text-align:left;white-space:nowrap}\
td.n,th.n{text-align:right}p{max-width:60rem}svg{max-width:100%;height:auto}";

/// The page.
pub fn page(report: &Report) -> String {
    let title = escape(&report.title());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    if report.kind == Kind::Bandwidth
        && let Ok(svg) = chart::svg(&report.series, report.window)
    {
        page += &svg;
    }
    for section in &report.sections {
        let name = section.name.replace('_', " ");
        let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escape(&name), escape(&section.how));
        if section.rows.is_empty() {
            page += "<p>0 rows</p>\n";
            continue;
        }
        let number = |at: usize| section.rows.iter().all(|row| row[at].is_number());
        let class = |at: usize| if number(at) { " class=\"n\"" } else { "" };
        page += "<div class=\"scroll\"><table>\n<thead><tr>";
        for (at, column) in section.columns.iter().enumerate() {
            let _ = write!(page, "<th scope=\"col\"{}>{}</th>", class(at), escape(column));
        }
        page += "</tr></thead>\n<tbody>\n";
        for row in &section.rows {
            page += "<tr>";
            for (at, value) in row.iter().enumerate() {
                let text = escape(&shown(&section.columns[at], value));
                let _ = write!(page, "<td{}>{text}</td>", class(at));
            }
            page += "</tr>\n";
        }
        page += "</tbody>\n</table></div>\n";
    }
    page + "</main>\n</body>\n</html>\n"
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_is_markup() {
        assert_eq!(escape("<b a=\"1\">&'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }
}
