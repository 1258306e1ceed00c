//! What is known of the flows of one batch. Texts are kept once a batch; a row has their numbers,
//! because a reference count for each row and text would cost more than finding them.

use std::sync::Arc;

use foldhash::fast::FixedState;
use std::collections::HashMap;

use super::geoip::Place;

/// What is known of one flow. Numbers are of texts in [`BatchLabels`]; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Where the initiator is.
    pub src: Place,
    /// Where the other side is.
    pub dst: Place,
    /// Its host name.
    pub src_host: u32,
    /// Its host name.
    pub dst_host: u32,
    /// The systemd unit or container of the local end.
    pub unit: u32,
    /// The service.
    pub service: u32,
}

/// The labels of the rows of a batch, in their order.
#[derive(Clone, Debug, Default)]
pub struct BatchLabels {
    rows: Vec<Labels>,
    texts: Texts,
    /// Services have been looked up: one that is not there is not known.
    has_services: bool,
}

/// Labels as a row has them; empty texts and 0 for what is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns are documented in docs/schema.md")]
pub struct RowLabels<'a> {
    pub src_country: &'a str,
    pub dst_country: &'a str,
    pub src_asn: u32,
    pub dst_asn: u32,
    pub src_host: &'a str,
    pub dst_host: &'a str,
    pub unit: &'a str,
    /// None if services were not looked up: then the built-in table says it.
    pub service: Option<&'a str>,
}

impl BatchLabels {
    /// Room for so many rows.
    pub fn with_capacity(rows: usize, has_services: bool) -> Self {
        Self { rows: Vec::with_capacity(rows), texts: Texts::default(), has_services }
    }

    /// The next row.
    pub fn push(&mut self, labels: Labels) {
        self.rows.push(labels);
    }

    /// The number of a text in this batch.
    pub fn text(&mut self, text: &Arc<str>) -> u32 {
        self.texts.number(text)
    }

    /// Forgets which texts have numbers already; those that have them stay.
    pub fn freeze(&mut self) {
        self.texts.numbers = HashMap::default();
    }

    /// The labels of the rows, by number of their texts.
    pub(crate) fn rows(&self) -> &[Labels] {
        &self.rows
    }

    /// How many texts there are; their numbers are 1 to this one.
    pub(crate) fn texts(&self) -> usize {
        self.texts.texts.len()
    }

    /// The text with a number; empty for 0.
    pub(crate) fn text_of(&self, number: u32) -> &str {
        self.texts.get(number)
    }

    /// Services have been looked up: one that is not there is not known.
    pub(crate) fn has_services(&self) -> bool {
        self.has_services
    }

    /// The labels of a row; those of a row that has none are empty.
    pub fn row(&self, row: usize) -> RowLabels<'_> {
        let Some(labels) = self.rows.get(row) else { return RowLabels::default() };
        let text = |number| self.texts.get(number);
        RowLabels {
            src_country: labels.src.country.as_str(),
            dst_country: labels.dst.country.as_str(),
            src_asn: labels.src.asn,
            dst_asn: labels.dst.asn,
            src_host: text(labels.src_host),
            dst_host: text(labels.dst_host),
            unit: text(labels.unit),
            service: self.has_services.then(|| text(labels.service)),
        }
    }
}

/// Texts and their numbers, from 1.
#[derive(Clone, Debug, Default)]
struct Texts {
    texts: Vec<Arc<str>>,
    /// By address: the same text at another address has another number, which does no harm. No
    /// address comes twice, because `texts` keeps what is there.
    numbers: HashMap<usize, u32, FixedState>,
}

impl Texts {
    fn number(&mut self, text: &Arc<str>) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let address = Arc::as_ptr(text).cast::<u8>() as usize;
        *self.numbers.entry(address).or_insert_with(|| {
            self.texts.push(text.clone());
            self.texts.len() as u32
        })
    }

    fn get(&self, number: u32) -> &str {
        (number as usize).checked_sub(1).and_then(|at| self.texts.get(at)).map_or("", |text| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::Country;

    #[test]
    fn rows_have_the_texts_that_they_were_given() {
        let (nginx, empty): (Arc<str>, Arc<str>) = ("nginx.service".into(), "".into());
        let again: Arc<str> = "nginx.service".into();
        let mut batch = BatchLabels::with_capacity(3, true);
        let unit = batch.text(&nginx);
        assert_eq!((batch.text(&nginx), batch.text(&empty)), (unit, 0));
        let place = Place { country: Country::new("DE"), asn: 64_500 };
        batch.push(Labels { unit, dst: place, ..Labels::default() });
        batch.push(Labels::default());
        let unit = batch.text(&again);
        batch.push(Labels { unit, ..Labels::default() });
        batch.freeze();
        let first = batch.row(0);
        assert_eq!((first.unit, first.dst_country, first.dst_asn), ("nginx.service", "DE", 64_500));
        assert_eq!(first.service, Some(""));
        assert_eq!(batch.row(1), RowLabels { service: Some(""), ..RowLabels::default() });
        assert_eq!(batch.row(2).unit, "nginx.service");
        assert_eq!(batch.row(3), RowLabels::default());
    }
}
