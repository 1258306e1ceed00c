//! Sends what a shape says until it is told to stop, on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use flow_agent::bench::generator::{Generator, PACKETS, Plan, Traffic};
use flow_agent::bench::rig::{allowed_cpus, pin};
use flow_agent::bench::workload::{Distribution, workload};
use flow_tests::lab::Lab;
use flow_tests::traffic::{self, Ends};

use crate::shape::{Flows, Work};

/// Between two bursts.
const TICK: Duration = Duration::from_millis(2);
/// A burst, if as many as can be are sent.
const BURST: u32 = 1 << 16;
/// Connections between two looks whether it is time to stop.
const CONNECTIONS: u64 = 100;
/// Servers' ports.
const FIRST_PORT: u16 = 8000;
const LAST_PORT: u16 = 8999;
/// Where in the frame the flow's number goes: the source address.
const FLOW_OFFSET: u32 = 26;

/// What is sent, ready to be.
pub struct Sender {
    work: Work,
    /// None for connections, which the kernel makes.
    packets: Option<(Generator, Vec<u8>)>,
}

impl Sender {
    /// Loads programs and tables, which takes a second.
    pub fn new(lab: &Lab, work: Work) -> Result<Self> {
        let packets = match work {
            Work::Connections => None,
            Work::Packets { flows, .. } => {
                Some((generator(lab, flows)?, lab.right.to_nobody(40_000, 443)))
            }
        };
        Ok(Self { work, packets })
    }

    /// Sends until `stop` is set.
    pub fn send(&self, lab: &Lab, stop: &AtomicBool) -> Result<()> {
        let (Some((generator, frame)), Work::Packets { rate, .. }) = (&self.packets, self.work)
        else {
            // Ports of connections that have just ended are not free yet: others each time.
            for port in (FIRST_PORT..=LAST_PORT).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let ends = Ends::v4((&lab.right, 0), (&lab.left, 0), port);
                traffic::short(ends, CONNECTIONS, 200, 1000)?;
            }
            return Ok(());
        };
        lab.right.namespace.enter(|| {
            // Sending and the receiving softirq have one CPU, the agent what is left.
            pin(allowed_cpus()?.last().copied().unwrap_or(0))?;
            let send = |packets| generator.send(Traffic::Workload, frame, packets);
            let (started, mut sent) = (Instant::now(), 0);
            while !stop.load(Ordering::Relaxed) {
                let Some(rate) = rate else {
                    send(BURST)?;
                    continue;
                };
                let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                // What could not be sent in time is sent later, but never in one flood.
                let now = due.saturating_sub(sent).min(u64::from(BURST));
                if now > 0 {
                    send(now as u32)?;
                    sent += now;
                }
                thread::park_timeout(TICK);
            }
            Ok(())
        })
    }
}

fn generator(lab: &Lab, flows: Flows) -> Result<Generator> {
    let output_ifindex = lab.right.index()?;
    let churn = if flows == Flows::New { PACKETS } else { 0 };
    let mut generator = Generator::load(Plan { flow_offset: FLOW_OFFSET, churn, output_ifindex })?;
    let flow_of: Vec<u32> = match flows {
        Flows::New => (0..PACKETS).collect(),
        Flows::Same(0) => bail!("no flows to send packets of"),
        Flows::Same(flows) => workload(Distribution::Uniform, flows, PACKETS as usize, 7),
    };
    generator.set_workload(&flow_of)?;
    Ok(generator)
}
