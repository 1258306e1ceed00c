//! Delivery of what the analytics found: rows of `events` and `devices`.
//!
//! Enters: rows with their tokens, by a bounded queue. It has a thread and connections of its
//! own, so that no flow waits for it. The same rows are sent under the same token until the
//! store has them or the agent must stop.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use super::retry::{Deadline, retry};
use super::{ClickHouse, Course, Endpoints, SinkError};
use crate::analytics::{DeviceRow, Event, Rows, RowsQueue};

#[derive(Debug, Row, Serialize)]
struct EventRow<'a> {
    ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    id: Uuid,
    revision: u32,
    exporter: &'a str,
    kind: &'static str,
    severity: &'static str,
    interface: &'a str,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    port: u16,
    protocol: u8,
    service: &'a str,
    value: f64,
    threshold: f64,
    count: u64,
    first: i64,
    last: i64,
    message: &'a str,
    details: &'a BTreeMap<&'static str, String>,
}

#[derive(Debug, Row, Serialize)]
struct DeviceColumns<'a> {
    address: Ipv6Addr,
    mac: &'a str,
    exporter: &'a str,
    interface: &'a str,
    own: u8,
    first_seen: u32,
    last_seen: u32,
}

impl<'a> EventRow<'a> {
    fn new(event: &'a Event, exporter: &'a str) -> Self {
        let finding = &event.finding;
        let ms = |ns: u64| (ns / 1_000_000) as i64;
        Self {
            ts: ms(event.ts_ns),
            id: event.id,
            revision: event.revision,
            exporter,
            kind: finding.kind.label(),
            severity: finding.severity.label(),
            interface: &finding.interface,
            src: finding.src.into(),
            dst: finding.dst.into(),
            port: finding.port,
            protocol: finding.protocol,
            service: finding.service,
            value: finding.value,
            threshold: finding.threshold,
            count: finding.count,
            first: ms(finding.first_ns),
            last: ms(finding.last_ns),
            message: &event.message,
            details: &finding.details,
        }
    }
}

impl<'a> DeviceColumns<'a> {
    fn new(device: &'a DeviceRow, exporter: &'a str) -> Self {
        let seconds = |ns: u64| (ns / 1_000_000_000) as u32;
        Self {
            address: device.address.into(),
            mac: &device.mac,
            exporter,
            interface: &device.interface,
            own: device.own.into(),
            first_seen: seconds(device.first_ns),
            last_seen: seconds(device.last_ns),
        }
    }
}

/// Sends rows of the analytics to one store.
pub struct FindingsDelivery {
    /// The store, with connections that nothing else uses.
    pub store: Endpoints,
    /// This host's name.
    pub exporter: String,
    /// Once the agent stops, the store has this long to take what is left.
    pub patience: Duration,
}

impl FindingsDelivery {
    /// Starts the thread; it ends after the analytics.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn start(
        self,
        queue: RowsQueue,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("findings".into())
            .spawn(move || runtime.block_on(self.run(queue, stopping)))
    }

    async fn run(self, mut queue: RowsQueue, stopping: watch::Receiver<bool>) {
        let mut deadline = Deadline::new(stopping, self.patience);
        while let Some(rows) = queue.rows.recv().await {
            let course = Course::default();
            let insert = async |client: &ClickHouse| self.insert(client, &rows).await;
            let send = async || course.send(&self.store, Instant::now, &insert).await;
            match retry(&mut deadline, send).await {
                Ok(()) => queue.stored(&rows),
                Err(error) => {
                    queue.dropped(&rows);
                    tracing::warn!(
                        "{} events and {} devices are not in the store: {error}",
                        rows.events.len(),
                        rows.devices.len()
                    );
                }
            }
        }
    }

    async fn insert(&self, client: &ClickHouse, rows: &Rows) -> Result<(), SinkError> {
        let exporter = self.exporter.as_str();
        if !rows.events.is_empty() {
            let events = rows.events.iter().map(|event| EventRow::new(event, exporter));
            client.insert::<EventRow<'_>>("events", rows.events_id, events).await?;
        }
        if !rows.devices.is_empty() {
            let devices = rows.devices.iter().map(|device| DeviceColumns::new(device, exporter));
            client.insert::<DeviceColumns<'_>>("devices", rows.devices_id, devices).await?;
        }
        Ok(())
    }
}
