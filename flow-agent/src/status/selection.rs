//! The order to invalidate, as `POST /api/v1/cache/invalidate` takes it.

use serde::{Deserialize, Serialize};

use super::{FlowName, Sources, StatusError};
use crate::cache::{Invalidated, Mode, Selection, Unanswered};
use crate::names::Names;

/// Exactly one of the selections, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvalidateOrder {
    /// One flow, as [`FlowName`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Flows with an end in this prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Flows at the interface of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Flows that this version of the agent counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Every flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// `soft` (the default) or `hard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidateReport {
    /// `soft` or `hard`.
    pub mode: String,
    /// Flows.
    pub flows: u64,
    /// Packets in the records that were emitted for them.
    pub packets: u64,
}

impl InvalidateOrder {
    /// The selections and the mode; `names` are of the interfaces.
    ///
    /// # Errors
    /// What is wrong with the order.
    pub fn check(&self, names: &Names) -> Result<(Vec<Selection>, Mode), StatusError> {
        let usage = |problem: String| StatusError::Refused { problem, usage: true };
        let mode = match self.mode.as_deref() {
            None | Some("soft") => Mode::Soft,
            Some("hard") => Mode::Hard,
            Some(other) => {
                return Err(usage(format!("mode is {other:?}; it must be soft or hard")));
            }
        };
        let mut selections = Vec::new();
        if let Some(key) = &self.key {
            let name: FlowName = key.parse().map_err(usage)?;
            selections.push(vec![Selection::Key(name.query())]);
        }
        if let Some(prefix) = &self.prefix {
            selections.push(vec![Selection::Prefix(prefix.parse().map_err(usage)?)]);
        }
        if let Some(interface) = &self.interface {
            let numbers = 1..=names.highest() as u16;
            let named = numbers.filter(|number| **names.interface(*number) == **interface);
            let named: Vec<_> = named.map(Selection::Interface).collect();
            if named.is_empty() {
                return Err(usage(format!(
                    "no interface {interface:?} has been metered; `flow-agent cache stats` and \
                     /api/v1/interfaces list the names"
                )));
            }
            selections.push(named);
        }
        if let Some(version) = &self.version {
            selections.push(vec![Selection::Version(version.clone())]);
        }
        if self.all == Some(true) {
            selections.push(vec![Selection::All]);
        }
        let one = selections.len() == 1;
        let selection = selections.pop().filter(|_| one).ok_or_else(|| {
            usage("give exactly one of key, prefix, interface, version and all = true".into())
        })?;
        Ok((selection, mode))
    }

    /// Has the cache do it.
    ///
    /// # Errors
    /// The order is wrong, or the cache does not answer.
    pub fn carry_out(&self, sources: &Sources) -> Result<InvalidateReport, StatusError> {
        let (selections, mode) = self.check(&sources.names.current())?;
        let mut sum = Invalidated::default();
        for selection in &selections {
            let done =
                sources.cache.invalidate(selection, mode, sources.patience).map_err(|error| {
                    let later = match error {
                        Unanswered::Late(_) => "; what was asked is done nevertheless, later",
                        _ => "",
                    };
                    let before = match sum.flows {
                        0 => String::new(),
                        flows => format!("; {flows} flows were invalidated before"),
                    };
                    StatusError::Refused {
                        problem: format!("{error}{later}{before}"),
                        usage: false,
                    }
                })?;
            sum.flows += done.flows;
            sum.packets += done.packets;
        }
        let mode = if mode == Mode::Hard { "hard" } else { "soft" };
        Ok(InvalidateReport { mode: mode.into(), flows: sum.flows, packets: sum.packets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(Vec<Selection>, Mode), String> {
        let order: InvalidateOrder = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let names = Names::new("host", &["eth0", "eth1", "eth0"]);
        order.check(&names).map_err(|error| error.to_string())
    }

    #[test]
    fn one_selection_is_taken() {
        let all = check("{\"all\": true}").expect("valid");
        assert_eq!(all, (vec![Selection::All], Mode::Soft));
        let (by_name, mode) = check("{\"interface\":\"eth0\",\"mode\":\"hard\"}").expect("valid");
        assert_eq!(by_name, [Selection::Interface(1), Selection::Interface(3)]);
        assert_eq!(mode, Mode::Hard);
        let key = check("{\"key\":\"udp,10.0.0.1:53,10.0.0.2:7\"}").expect("valid").0;
        assert!(matches!(key[..], [Selection::Key(query)] if query.src_port == Some(53)));
        assert!(check("{\"prefix\":\"10.0.0.0/8\"}").is_ok());
        assert!(check("{\"version\":\"1.2.3\"}").is_ok());
    }

    #[test]
    fn a_wrong_order_says_what_is_wrong() {
        for (json, words) in [
            ("{}", "exactly one of key, prefix"),
            ("{\"all\":false}", "exactly one of"),
            ("{\"all\":true,\"version\":\"1\"}", "exactly one of"),
            ("{\"all\":true,\"mode\":\"gentle\"}", "it must be soft or hard"),
            ("{\"key\":\"tcp\"}", "write PROTOCOL,END,END"),
            ("{\"prefix\":\"10.0.0.1/8\"}", "write \"10.0.0.0/8\""),
            ("{\"interface\":\"eth7\"}", "no interface \"eth7\""),
            ("{\"everything\":true}", "unknown field `everything`"),
            ("[]", ""),
            ("", ""),
        ] {
            let error = check(json).expect_err(json);
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
