//! Rare things worth a line in the agent's log, at the first, second, fourth, eighth... time.

use aya_log_ebpf::debug;

use crate::hook::Context;

/// A flow left a full set: the table is too small for the traffic.
#[inline(always)]
pub fn evicted(ctx: &impl Context, times: u64) {
    if times.is_power_of_two() {
        debug!(ctx, "a flow table is full: {} flows have left it in this interval", times);
    }
}

/// A packet that is not IP.
#[inline(always)]
pub fn not_ip(ctx: &impl Context, ifindex: u32, times: u64) {
    if times.is_power_of_two() {
        debug!(ctx, "ifindex {}: {} packets of unknown ethertype in this interval", ifindex, times);
    }
}
