//! At TC the headers may lie in a part of the packet that is not read at once. Needs root and the
//! agent's binary.

use anyhow::Result;
use etherparse::{IpNumber, PacketBuilder};
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::tally::PacketSocket;

/// With less in it than this a buffer would be one part.
const PAYLOAD: [u8; 5_000] = [0; 5_000];

#[test]
fn ports_and_icmp_types_behind_the_linear_part_of_ipv6_are_found() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    for side in [left, right] {
        side.namespace.ip(&format!("link set {} mtu 9000\n", side.interface))?;
    }
    let builder =
        || PacketBuilder::ethernet2(left.mac(), right.mac()).ipv6([0xfd; 16], [0xfe; 16], 64);
    let (mut echo, mut sctp) = (Vec::new(), Vec::new());
    builder().icmpv6_echo_request(1, 2).write(&mut echo, &PAYLOAD)?;
    let chunks = [&[0x12, 0x34, 0x56, 0x78][..], &PAYLOAD].concat();
    builder().write(&mut sctp, IpNumber::SCTP, &chunks)?;
    let agent = rig.agent_with(("tc", "tc"), &[])?;
    left.namespace.enter(|| {
        let socket = PacketSocket::open(left.interface)?;
        // Ethernet and IPv6, and nothing behind them.
        socket.send_split(&echo, 54)?;
        Ok(socket.send_split(&sctp, 54)?)
    })?;
    rig.lab.wait_quiet()?;
    agent.stop()?;
    let question = "SELECT protocol, icmp_type, src_port, dst_port, count() FROM flow.flows \
                    WHERE protocol IN (58, 132) GROUP BY ALL ORDER BY protocol";
    let expected = [["58", "128", "0", "0", "2"], ["132", "0", "4660", "22136", "2"]];
    assert_eq!(sql::rows(rig.store.url(), question)?, expected);
    Ok(())
}
