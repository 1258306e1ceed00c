//! An XDP program of somebody else: it drops everything that comes in at one end of a lab.

use anyhow::{Result, anyhow};
use aya::programs::{Xdp, XdpMode};
use flow_agent::bench::generator::{Generator, Plan};

use crate::lab::Side;

/// The attached program; gone when it is dropped.
pub struct Foreign {
    _generator: Generator,
}

impl Foreign {
    /// What the kernel calls it.
    pub const NAME: &'static str = "drop_xdp";

    /// Drops all that this end receives, above the driver.
    pub fn drop_all(side: &Side) -> Result<Self> {
        let mut generator = Generator::load(Plan::default())?;
        side.namespace.enter(|| {
            let program = generator.ebpf.program_mut(Self::NAME);
            let program: &mut Xdp = program.ok_or_else(|| anyhow!("it is there"))?.try_into()?;
            program.attach(side.interface, XdpMode::Skb)?;
            Ok(())
        })?;
        Ok(Self { _generator: generator })
    }
}
