//! The columns that come from what is known of the flows: services, countries, units, hosts.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::cell::Cell;
use super::columns;
use super::dictionary::Dictionary;
use super::native::BlockBuilder;
use crate::enrich::{BatchLabels, Country, Labels};
use crate::record::FlowRecord;
use crate::services::{ServicePort, service_port};

/// Dictionaries of the columns that have one, filled row by row.
pub(super) struct LabelColumns<'l> {
    labels: &'l BatchLabels,
    service: Dictionary,
    /// Numbers of the texts of `labels` in `service`, plus one.
    service_texts: Vec<u32>,
    /// Numbers of built-in services.
    built_in: HashMap<ServicePort, u32, FixedState>,
    no_service: u32,
    unit: Dictionary,
    unit_texts: Vec<u32>,
    countries: [Countries; 2],
}

#[derive(Default)]
struct Countries {
    dictionary: Dictionary,
    /// The one of the row before, with its number: neighbours often agree.
    last: Option<(Country, u32)>,
    numbers: HashMap<Country, u32, FixedState>,
}

impl Countries {
    fn new(rows: usize) -> Self {
        Self { dictionary: Dictionary::with_capacity(rows), ..Self::default() }
    }

    fn push(&mut self, country: Country) {
        let number = match self.last {
            Some((last, number)) if last == country => number,
            _ => {
                let dictionary = &mut self.dictionary;
                let key = |country: &Country| dictionary.key(country.as_str());
                let number = *self.numbers.entry(country).or_insert_with_key(key);
                self.last = Some((country, number));
                number
            }
        };
        self.dictionary.push(number);
    }
}

/// The number of a text in a dictionary, found once for each text.
fn number_of(
    labels: &BatchLabels,
    texts: &mut [u32],
    dictionary: &mut Dictionary,
    text: u32,
) -> u32 {
    let known = &mut texts[text as usize];
    if *known == 0 {
        *known = dictionary.key(labels.text_of(text)) + 1;
    }
    *known - 1
}

impl<'l> LabelColumns<'l> {
    pub fn new(labels: &'l BatchLabels, rows: usize) -> Self {
        let mut service = Dictionary::with_capacity(rows);
        Self {
            labels,
            no_service: service.key(""),
            service,
            service_texts: vec![0; labels.texts() + 1],
            built_in: HashMap::default(),
            unit: Dictionary::with_capacity(rows),
            unit_texts: vec![0; labels.texts() + 1],
            countries: [Countries::new(rows), Countries::new(rows)],
        }
    }

    /// The next rows, from row `at` on.
    pub fn add(&mut self, at: usize, records: &[FlowRecord]) {
        let labels = self.labels;
        for (row, record) in (at..).zip(records) {
            let known = labels.rows().get(row);
            let Labels { src, dst, unit, service, .. } = known.copied().unwrap_or_default();
            let service = if known.is_some() && labels.has_services() {
                number_of(labels, &mut self.service_texts, &mut self.service, service)
            } else {
                self.built_in(record)
            };
            self.service.push(service);
            let unit = number_of(labels, &mut self.unit_texts, &mut self.unit, unit);
            self.unit.push(unit);
            let [src_countries, dst_countries] = &mut self.countries;
            src_countries.push(src.country);
            dst_countries.push(dst.country);
        }
    }

    /// The number of the name that the built-in table has.
    fn built_in(&mut self, record: &FlowRecord) -> u32 {
        let Some(port) = service_port(record.protocol, [record.dst_port, record.src_port]) else {
            return self.no_service;
        };
        let service = &mut self.service;
        *self.built_in.entry(port).or_insert_with(|| service.key(port.name().unwrap_or_default()))
    }

    /// Autonomous systems of `src` (`side` 0) or `dst` of the rows from `at` on.
    pub fn put_asn(&self, at: usize, side: usize, out: &mut [u8]) {
        // What is not known stays 0.
        let Some(labels) = self.labels.rows().get(at..) else { return };
        for (labels, cell) in labels.iter().zip(out.chunks_exact_mut(u32::WIDTH)) {
            [labels.src, labels.dst][side].asn.put(cell);
        }
    }

    /// Writes the columns with dictionaries.
    pub fn write(&self, block: &mut BlockBuilder) {
        let [src, dst] = &self.countries;
        block.dictionary(columns::SERVICE.name, &self.service);
        block.dictionary(columns::SRC_COUNTRY.name, &src.dictionary);
        block.dictionary(columns::DST_COUNTRY.name, &dst.dictionary);
        block.dictionary(columns::UNIT.name, &self.unit);
    }
}

/// Host names, which are written as they are.
pub(super) struct HostTexts<'l> {
    labels: &'l BatchLabels,
    rows: usize,
}

impl<'l> HostTexts<'l> {
    pub fn of(labels: &'l BatchLabels, rows: usize) -> Self {
        Self { labels, rows }
    }

    fn side(&self, side: usize) -> impl Iterator<Item = &'l str> {
        let labels = self.labels;
        (0..self.rows).map(move |row| {
            let known = labels.rows().get(row);
            let number = known.map_or(0, |known| [known.src_host, known.dst_host][side]);
            labels.text_of(number)
        })
    }

    /// What they take beside an octet a row and side, about.
    pub fn octets(&self) -> usize {
        if self.labels.texts() == 0 {
            return 0;
        }
        // A name has at most 255 octets, so that its length takes two.
        [0, 1].map(|side| self.side(side).map(|text| text.len() + 1).sum::<usize>()).iter().sum()
    }

    pub fn write(&self, block: &mut BlockBuilder) {
        block.texts(columns::SRC_HOST.name, self.side(0));
        block.texts(columns::DST_HOST.name, self.side(1));
    }
}
