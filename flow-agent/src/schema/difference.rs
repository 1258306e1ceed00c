//! What a store's tables differ in: enter the layouts that there should be and those that there
//! are, leave lines that each name one difference.

use std::collections::BTreeMap;
use std::fmt;

use super::layout::{Column, Layout};

/// One difference between a store and the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table or view.
    pub table: String,
    /// The column, clause or setting; empty for the whole table.
    pub part: String,
    /// As it is in the store; nothing if it is missing.
    pub found: Option<String>,
    /// As the schema has it; nothing if it is no part of it.
    pub wanted: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, part, found, wanted } = self;
        let what = if part.is_empty() { table.clone() } else { format!("{table}: {part}") };
        match (found, wanted) {
            (None, Some(wanted)) if wanted.is_empty() => write!(f, "{what} is missing"),
            (None, Some(wanted)) => write!(f, "{what} is missing; it should be {wanted}"),
            (Some(found), None) if found.is_empty() => write!(f, "{what} is not in the schema"),
            (Some(found), None) => write!(f, "{what} is {found}, which is not in the schema"),
            (Some(found), Some(wanted)) => write!(f, "{what} is {found}; it should be {wanted}"),
            (None, None) => write!(f, "{what}"),
        }
    }
}

/// Tables and views by name.
pub type Layouts = BTreeMap<String, Layout>;

/// Every difference, by table.
pub fn differences(found: &Layouts, wanted: &Layouts) -> Vec<Difference> {
    let mut list = Vec::new();
    for (table, layout) in wanted {
        match found.get(table) {
            Some(there) => compare(table, there, layout, &mut list),
            None => list.push(difference(table, "", None, Some(String::new()))),
        }
    }
    for table in found.keys().filter(|table| !wanted.contains_key(*table)) {
        list.push(difference(table, "", Some(String::new()), None));
    }
    list
}

fn compare(table: &str, found: &Layout, wanted: &Layout, list: &mut Vec<Difference>) {
    let is_view = wanted.clauses.contains_key("select");
    // A table over all shards copies its columns.
    if !is_view && !wanted.columns.is_empty() {
        compare_columns(table, &found.columns, &wanted.columns, list);
    }
    let names = found.clauses.keys().chain(wanted.clauses.keys());
    let mut names: Vec<_> = names.copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (there, should) = (found.clauses.get(name), wanted.clauses.get(name));
        if there != should {
            list.push(difference(table, name, there.cloned(), should.cloned()));
        }
    }
    // The store adds settings of its own; those of the schema must be there as they are.
    for (name, value) in &wanted.settings {
        let there = found.settings.get(name);
        if there != Some(value) {
            let part = format!("setting {name}");
            list.push(difference(table, &part, there.cloned(), Some(value.clone())));
        }
    }
}

fn compare_columns(
    table: &str,
    found: &[(String, Column)],
    wanted: &[(String, Column)],
    list: &mut Vec<Difference>,
) {
    let of = |columns: &[(String, Column)], name: &str| {
        columns.iter().find(|(other, _)| other == name).map(|(_, column)| column.clone())
    };
    for (name, should) in wanted {
        let part = |what: &str| format!("column {name}{what}");
        let Some(there) = of(found, name) else {
            list.push(difference(table, &part(""), None, Some(should.kind.clone())));
            continue;
        };
        for (what, there, should) in [
            ("", there.kind, &should.kind),
            (" default", there.default, &should.default),
            (" codec", there.codec, &should.codec),
        ] {
            if there != *should {
                let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
                list.push(difference(table, &part(what), text(&there), text(should)));
            }
        }
    }
    for (name, there) in found.iter().filter(|(name, _)| of(wanted, name).is_none()) {
        list.push(difference(table, &format!("column {name}"), Some(there.kind.clone()), None));
    }
}

fn difference(
    table: &str,
    part: &str,
    found: Option<String>,
    wanted: Option<String>,
) -> Difference {
    Difference { table: table.into(), part: part.into(), found, wanted }
}
