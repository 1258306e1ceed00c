//! Reading a capture: blocks of packets in their order, with what is known of their interfaces.
//!
//! Enters: a capture. Leaves: blocks that are read and not yet parsed. It holds that the
//! same capture makes the same blocks, whenever they are taken.

use std::sync::Arc;

use flow_common::Link;

use super::ReplayError;
use super::capture::{Block, Capture, LinkType, Packet};
use super::parsed::Parsed;

/// What is kept from capture to capture.
#[derive(Default)]
pub struct Reading {
    /// Interface names; a number is the position plus one.
    interfaces: Arc<Vec<Arc<str>>>,
}

/// The interfaces of the capture that is being read, by their index in it.
#[derive(Default)]
pub struct Known {
    /// Numbers and links; a link that is not supported stands as any.
    interfaces: Arc<Vec<(u16, Link)>>,
    /// The first whose link type is not supported; that matters at its first packet.
    unsupported: Option<u32>,
}

impl Reading {
    /// Names of the interfaces so far.
    pub fn interfaces(&self) -> &Arc<Vec<Arc<str>>> {
        &self.interfaces
    }

    /// Reads the next block, and says in `parsed` what is known of its interfaces; it has no packets
    /// at the end of the capture.
    ///
    /// # Errors
    /// The file cannot be read or has an unsupported link type; the packets before are in the
    /// block, and nothing is to be read after it.
    pub fn block(
        &mut self,
        capture: &mut Capture,
        known: &mut Known,
        block: &mut Block,
        parsed: &mut Parsed,
    ) -> Result<(), ReplayError> {
        let read = capture.next_block(block);
        let learned = self.learn(capture, known);
        parsed.links = known.interfaces.clone();
        parsed.interfaces = self.interfaces.clone();
        parsed.octets_read = capture.file_octets_read();
        if learned.is_err() {
            let known = known.interfaces.len() as u32;
            let position = block.packets().position(|packet| packet.interface >= known);
            block.truncate(position.unwrap_or(usize::MAX));
        }
        learned?;
        if let Some(first) = known.unsupported {
            let unsupported =
                |packet: &Packet<'_>| packet.interface >= first && link(packet.link).is_none();
            let packet = block.packets().enumerate().find(|(_, p)| unsupported(p));
            let packet = packet.map(|(position, packet)| (position, packet.link, packet.interface));
            if let Some((position, link, interface)) = packet {
                block.truncate(position);
                parser_link(link, capture, interface as usize)?;
            }
        }
        Ok(read?)
    }

    fn learn(&mut self, capture: &Capture, known: &mut Known) -> Result<(), ReplayError> {
        for interface in &capture.interfaces()[known.interfaces.len()..] {
            // Flows go on in the next capture of the same interface; two interfaces
            // of one capture stay two, even if both have no name of their own.
            let taken = |position: usize| {
                known.interfaces.iter().any(|(number, _)| usize::from(*number) == position + 1)
            };
            let position = (0..self.interfaces.len()).find(|position| {
                *self.interfaces[*position] == *interface.name && !taken(*position)
            });
            let position = position.unwrap_or_else(|| {
                Arc::make_mut(&mut self.interfaces).push(interface.name.as_str().into());
                self.interfaces.len() - 1
            });
            let number = u16::try_from(position + 1)
                .map_err(|_| ReplayError::Interfaces { file: capture.file().to_string() })?;
            let link = link(interface.link);
            if link.is_none() && known.unsupported.is_none() {
                known.unsupported = Some(known.interfaces.len() as u32);
            }
            let link = link.unwrap_or(Link::RawIp);
            Arc::make_mut(&mut known.interfaces).push((number, link));
        }
        Ok(())
    }
}

/// The parser's name for the link type of an interface of `capture`.
///
/// # Errors
/// The parser cannot read it.
pub fn parser_link(
    link_type: LinkType,
    capture: &Capture,
    interface: usize,
) -> Result<Link, ReplayError> {
    link(link_type).ok_or_else(|| ReplayError::LinkType {
        file: capture.file().to_string(),
        interface: capture.interfaces()[interface].name.clone(),
        link: link_type,
    })
}

/// The parser's name for a capture's link type, if it can read it.
fn link(link: LinkType) -> Option<Link> {
    match link.canonical() {
        LinkType::ETHERNET => Some(Link::Ethernet),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => Some(Link::RawIp),
        LinkType::LINUX_SLL => Some(Link::LinuxSll),
        LinkType::LINUX_SLL2 => Some(Link::LinuxSll2),
        LinkType::NULL | LinkType::LOOP => Some(Link::BsdLoopback),
        _ => None,
    }
}
