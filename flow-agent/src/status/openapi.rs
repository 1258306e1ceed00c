//! The description of every route: what enters and what leaves, for programs and for people.
//!
//! Tests hold it to what is served: every route is in it and no other, and each answer of a
//! running agent has the shape that it says.

/// `OpenAPI` 3.1, JSON.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::super::respond::PATHS;
    use super::*;

    #[test]
    fn every_route_is_described_and_no_other() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
        let described: BTreeMap<String, BTreeSet<String>> = document["paths"]
            .as_object()
            .expect("an object")
            .iter()
            .map(|(path, methods)| {
                let methods = methods.as_object().expect("an object").keys();
                (path.clone(), methods.map(|method| method.to_uppercase()).collect())
            })
            .collect();
        let served: BTreeMap<String, BTreeSet<String>> = PATHS
            .iter()
            .map(|(path, methods)| {
                // HEAD is GET without the body: everywhere, and not described anew.
                let methods = methods.split(", ").filter(|method| *method != "HEAD");
                ((*path).to_owned(), methods.map(str::to_owned).collect())
            })
            .collect();
        assert_eq!(described, served, "status/openapi.json and PATHS differ");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
