//! Frames of other servers that make no sense.

use cld_server::peer::frame::{Frame, RefuseReason, Relay, RelayWay, SnapshotFrame};
use cldc_core::wire::EventMask;

use crate::secs;
use crate::world::{SOCKET, World};

/// Some frame that no honest server would send now.
fn nonsense(world: &mut World) -> Frame {
    let length = usize::try_from(world.random(80)).unwrap();
    let mut bytes: Vec<u8> = (0..length).map(|_| world.random(256) as u8).collect();
    if let Some(version) = bytes.first_mut() {
        // Of the version that is spoken.
        *version = 1;
    }
    let transfer = world.random(4);
    let snapshot = match world.random(9) {
        0 => return Frame::Message(bytes),
        1 => {
            let way = if world.random(2) == 0 { RelayWay::ToMaster } else { RelayWay::ToClient };
            let client = ([10, 0, 0, 99], 99).into();
            return Frame::Relay(Relay { way, client, socket: SOCKET, datagram: bytes });
        }
        2 => SnapshotFrame::Begin { transfer, point: bytes, length: world.random(100), checksum: 1 },
        3 => SnapshotFrame::Chunk { transfer, offset: world.random(3), bytes },
        4 => SnapshotFrame::End { transfer },
        5 => SnapshotFrame::Abort { transfer },
        6 => SnapshotFrame::Ack { transfer, received: world.random(1 << 40) },
        7 => SnapshotFrame::Accepted { transfer },
        _ => SnapshotFrame::Refused { transfer, reason: RefuseReason::Busy },
    };
    Frame::Snapshot(snapshot)
}

#[test]
fn nonsense_of_other_servers_is_counted_and_changes_nothing() {
    let mut world = World::new(1, 3);
    let at = world.join(&[1, 2, 3], true);
    let file = world.open(at, b"/file", EventMask::NONE);
    world.write(at, file, b"before");
    let (master, _) = world.await_master(secs(1));
    for _ in 0..3000 {
        let (to, from) = (world.random(3) + 1, world.random(9) + 1);
        let frame = nonsense(&mut world);
        let clock = world.clock(to);
        world.node(to).handle_peer(clock, from, frame);
        world.drain(to);
    }
    assert!(world.node(master).status().peers.malformed > 0);
    assert_eq!(world.master(), Some(master));
    assert_eq!(world.read(at, file), b"before");
    world.write(at, file, b"after");
    world.agree();
}
