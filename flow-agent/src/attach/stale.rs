//! Programs that a killed agent has left attached.
//!
//! The kernel detaches XDP and TCX programs when their descriptors are closed, some time
//! after the process has ended. Filters of a clsact qdisc, which are used before Linux 6.6,
//! stay, and go on counting in the tables of the dead agent.

use std::io;
use std::time::{Duration, Instant};

use aya::programs::tc::{TcAttachType, qdisc_detach_program};
use crossbeam::channel::never;
use flow_common::table::names;

use super::version::has_tcx;
use super::{Interface, PinFolder};

/// How long the kernel may take to detach what nobody holds any more.
const DETACHING: Duration = Duration::from_secs(1);

/// Ends the counting in the tables of a dead agent, if it can be ended: at the interfaces
/// that are to be metered, those filters are removed that have the name of our programs.
/// True if nothing counts there any more; also if the kernel does not say, but detaches
/// programs by itself.
///
/// # Errors
/// The kernel does not say, and may have left filters: `CAP_SYS_ADMIN` is needed.
pub fn end_counting(folder: &PinFolder, interfaces: &[Interface]) -> io::Result<bool> {
    let written = || match folder.is_written() {
        Err(_) if has_tcx() => Ok(false),
        written => written,
    };
    if !written()? {
        return Ok(true);
    }
    for interface in interfaces {
        let detached = interface.namespace.run(|| {
            for (side, name) in [
                (TcAttachType::Ingress, names::TC_INGRESS),
                (TcAttachType::Egress, names::TC_EGRESS),
            ] {
                match qdisc_detach_program(&interface.name, side, name) {
                    Ok(()) => tracing::info!("{interface}: a filter of a killed agent removed"),
                    Err(error) => tracing::debug!("{interface}: no filter removed: {error}"),
                }
            }
            Ok(())
        });
        if let Err(error) = detached {
            tracing::debug!("{interface}: no filter removed: {error}");
        }
    }
    let begin = Instant::now();
    while written()? {
        if begin.elapsed() > DETACHING {
            return Ok(false);
        }
        let _ = never::<()>().recv_timeout(DETACHING / 100);
    }
    Ok(true)
}
