//! A batch of records with ends among many hosts, and an enricher that knows them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use flow_agent::bench::updates::updates;
use flow_agent::cache::{Limits, Shard, Timeouts};
use flow_agent::enrich::{
    BatchLabels, Enricher, GeoFiles, GeoIp, Lifetime, Local, OwnServices, ServiceNames, SocketKey,
    Units,
};
use flow_agent::names::Names;
use flow_agent::record::FlowRecord;
use flow_common::random::SplitMix64;

use crate::mmdb::{asn_database, country_database};

/// Rows of a batch.
const ROWS: usize = 50_000;
const LIFETIME: Lifetime = Lifetime { entries: 1 << 16, ttl: Duration::from_secs(3600) };

/// Records and the enricher that labels them.
pub struct Enriched {
    records: Vec<FlowRecord>,
    enricher: Enricher,
    names: Arc<Names>,
}

impl Enriched {
    /// Flows between this host, whose sockets are known, and `hosts` others; with `places`, from
    /// files of as many networks.
    ///
    /// # Panics
    /// A temporary file cannot be written.
    pub fn new(hosts: u32, places: bool) -> Self {
        let mut shard = Shard::new(Limits::new(2 * ROWS, Timeouts::default()), 7);
        let mut records = Vec::new();
        // Those with odd numbers are questions to this host.
        let flows: Vec<_> = (0..ROWS as u32).map(|flow| 2 * flow + 1).collect();
        for delta in updates(&flows, 1_700_000_000_000_000_000, 1000) {
            shard.update(&delta, &mut records);
        }
        shard.flush(&mut records);
        let mut random = SplitMix64::new(11);
        let other = |host: u64| Ipv4Addr::from_bits(0x0b00_0000 + (host as u32 % hosts) * 256);
        for (record, port) in records.iter_mut().zip(1024..) {
            record.src_port = port;
            record.src = other(random.next()).to_ipv6_mapped().octets();
            record.interface = 1;
        }
        let (news, units) = bounded(1);
        let unit: Arc<str> = "nginx.service".into();
        let key = |record: &FlowRecord| SocketKey {
            local: u128::from_be_bytes(record.dst),
            remote: u128::from_be_bytes(record.src),
            namespace: 0,
            local_port: record.dst_port,
            remote_port: record.src_port,
            protocol: record.protocol,
        };
        let known = records.iter().map(|record| (key(record), unit.clone())).collect();
        news.send(known).expect("room");
        let local = Local {
            services: Some(ServiceNames::new(&OwnServices::default(), None)),
            units: Some(Units::new(LIFETIME, units)),
            hosts: None,
        };
        let geoip = places.then(|| {
            let networks: Vec<_> =
                (0..hosts).map(|host| format!("{}/24", other(host.into()))).collect();
            let folder = tempfile::tempdir().expect("a folder");
            let (country, asn) = (folder.path().join("c.mmdb"), folder.path().join("a.mmdb"));
            let countries: Vec<_> = networks.iter().map(|network| (&**network, "DE")).collect();
            let systems: Vec<_> = networks.iter().zip(1..).map(|(n, asn)| (&**n, asn)).collect();
            std::fs::write(&country, country_database(&countries)).expect("ours");
            std::fs::write(&asn, asn_database(&systems)).expect("ours");
            let files = GeoFiles { country: Some(country), asn: Some(asn) };
            GeoIp::open(&files, LIFETIME).expect("whole")
        });
        let enricher = Enricher::live(geoip, local, Instant::now());
        let mut enriched =
            Self { records, enricher, names: Arc::new(Names::new("host", &["eth0"])) };
        let first = enriched.label();
        assert_eq!(first.row(0).unit, "nginx.service");
        assert_eq!(first.row(0).src_asn > 0, places);
        enriched
    }

    /// How many rows are labelled at once.
    pub fn rows(&self) -> usize {
        self.records.len()
    }

    /// Labels them.
    pub fn label(&mut self) -> BatchLabels {
        self.enricher.label(&self.records, &self.names, Instant::now())
    }
}
