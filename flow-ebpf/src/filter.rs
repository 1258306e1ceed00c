//! The filter: which packets the meter leaves out, by the rules of the generation.
//!
//! Enters: the key of a packet, complete. Leaves: why it is not metered, if it is
//! not. With no rule a packet costs one look at its generation's flags.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::maps::lpm_trie::Key;
use flow_common::filter::{
    Filter, PORT_WORDS, PortWord, connection_key, flag, has_ports, prefix, sampling_hash,
};
use flow_common::key::protocol;
use flow_common::{Address, FlowKey, NotMetered};

use crate::maps;

/// Why a packet with this key is not metered; `None` when it is. `rules` are the flags
/// of the generation's filter.
#[inline(always)]
pub fn leaves_out(rules: u32, generation: u32, key: &FlowKey) -> Option<NotMetered> {
    // What is left out when nothing is configured is TCP.
    if rules == 0 || rules == flag::OWN_TRAFFIC && key.protocol != protocol::TCP {
        return None;
    }
    let filter = maps::FILTERS.get(generation)?;
    if is_own(filter, key) {
        return Some(NotMetered::OwnTraffic);
    }
    if filter.flags & !flag::OWN_TRAFFIC == 0 {
        return None;
    }
    if !protocol_passes(filter, key)
        || !ports_pass(filter, generation, key)
        || !prefixes_pass(filter, generation, key)
    {
        return Some(NotMetered::Filtered);
    }
    if is_sampled(filter, key) { None } else { Some(NotMetered::NotSampled) }
}

/// Other packets than those of the store's port pay two comparisons.
#[inline(always)]
fn is_own(filter: &Filter, key: &FlowKey) -> bool {
    if filter.flags & flag::OWN_TRAFFIC == 0
        || key.protocol != protocol::TCP
        || (key.src_port != filter.own_port && key.dst_port != filter.own_port)
    {
        return false;
    }
    // SAFETY: only whether there is an entry is looked at.
    unsafe { maps::OWN_CONNECTIONS.get(connection_key(key)) }.is_some()
}

#[inline(always)]
fn protocol_passes(filter: &Filter, key: &FlowKey) -> bool {
    let word = filter.protocols[usize::from(key.protocol >> 6) & 3];
    filter.flags & flag::PROTOCOLS == 0 || word >> (key.protocol & 63) & 1 != 0
}

#[inline(always)]
fn ports_pass(filter: &Filter, generation: u32, key: &FlowKey) -> bool {
    if filter.flags & flag::PORTS == 0 {
        return true;
    }
    let mut included = filter.flags & flag::INCLUDE_PORTS == 0;
    // What has no ports has no excluded one either.
    if has_ports(key) {
        let (include, exclude) = ports_say(generation, key);
        if exclude {
            return false;
        }
        included |= include;
    }
    included
}

/// Whether one of the ports is included, and whether one is excluded.
#[inline(always)]
fn ports_say(generation: u32, key: &FlowKey) -> (bool, bool) {
    let word = |port: u16| {
        let index = generation * PORT_WORDS + u32::from(port >> 6);
        maps::PORTS.get(index).copied().unwrap_or(PortWord { include: 0, exclude: 0 })
    };
    let (src, dst) = (word(key.src_port), word(key.dst_port));
    let bit = |src: u64, dst: u64| (src >> (key.src_port & 63) | dst >> (key.dst_port & 63)) & 1;
    (bit(src.include, dst.include) != 0, bit(src.exclude, dst.exclude) != 0)
}

#[inline(always)]
fn prefixes_pass(filter: &Filter, generation: u32, key: &FlowKey) -> bool {
    if filter.flags & flag::PREFIXES == 0 {
        return true;
    }
    let said = prefix_says(generation, &key.src) | prefix_says(generation, &key.dst);
    said & prefix::EXCLUDE == 0
        && (said & prefix::INCLUDE != 0 || filter.flags & flag::INCLUDE_PREFIXES == 0)
}

/// What the longest prefix of an address says, 0 when there is none.
#[inline(always)]
fn prefix_says(generation: u32, address: &Address) -> u32 {
    let key = Key::new(prefix::KEY_BITS, prefix::data(generation, address));
    maps::PREFIXES.get(&key).copied().unwrap_or(0)
}

#[inline(always)]
fn is_sampled(filter: &Filter, key: &FlowKey) -> bool {
    let number = if filter.flags & flag::SAMPLE_FLOWS != 0 {
        sampling_hash(key, maps::hash_key)
    } else if filter.flags & flag::SAMPLE_PACKETS != 0 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_prandom_u32() }
    } else {
        return true;
    };
    number <= filter.threshold
}
