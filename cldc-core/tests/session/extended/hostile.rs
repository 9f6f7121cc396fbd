//! Packets of extended sessions that no honest server sends: random ones, and true ones that are changed.

use cldc_core::session::{FullSession, Handle, Rejected, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::{Ack, Code, EventMask, LockFlags, Op, OpenMode, Packet, Part, Rider};

use super::{Extended, connected};
use crate::support::client::{Came, Client};
use crate::support::extended_server::riding;
use crate::support::name_space::done;
use crate::support::network::Faults;
use crate::support::peer::{packet, shifted};
use crate::support::random::Random;
use crate::support::world::server;

/// The server's next packet number, and what it has of the client's stream, from what was received last.
fn place<C: Client>(world: &Extended<C>) -> (u64, Ack) {
    let packets = world.received.iter().rev().map(|flight| Packet::parse(&flight.bytes).unwrap());
    let in_stream = packets.filter(|packet| packet.rider.is_some_and(|rider| !rider.loose));
    let last = in_stream.into_iter().next().unwrap();
    (last.number.wrapping_add(1), last.rider.unwrap().ack)
}

#[test]
fn acknowledgements_of_what_was_never_sent_make_the_packet_worth_nothing() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    let (number, ack) = place(&world);
    let clock = world.clock();
    let sid = world.session.id();
    let event =
        [handle.0.to_be_bytes().as_slice(), &1_u32.to_be_bytes(), &99_u64.to_be_bytes(), &[0; 8]].concat();
    let part = Part::Only { xid: 1, op: Op::Event };
    let next = ack.next;
    world.told.clear();
    world.sent.clear();
    for ack in [
        Ack { next: next.wrapping_add(1), held: 0 },
        Ack { next, held: 1 },
        Ack { next, held: 1 << 63 },
        Ack { next: next.wrapping_sub(1 << 20), held: 0 },
        Ack { next: next.wrapping_add(1 << 62), held: u64::MAX },
    ] {
        for loose in [false, true] {
            let part = if loose { Part::Only { xid: 1, op: Op::Ack } } else { part };
            let datagram = riding(sid, Some(Rider { ack, loose }), part, number, &event);
            let taken = world.session.handle_datagram(clock, server(0), &datagram);
            assert_eq!(taken, Err(Rejected::Stream), "{ack:?}");
        }
    }
    // Without an acknowledgement it is not of a stream, and loose only what may be.
    let plain = packet(sid, part, number, &event);
    assert!(world.session.handle_datagram(clock, server(0), &plain).is_err());
    let loose = riding(sid, Some(Rider { ack, loose: true }), part, number, &event);
    assert_eq!(world.session.handle_datagram(clock, server(0), &loose), Err(Rejected::Malformed));
    let old = shifted(sid, part, number, &event);
    assert_eq!(world.session.handle_datagram(clock, server(0), &old), Err(Rejected::Forged));
    world.drain();
    assert_eq!((world.told.len(), world.sent.len()), (0, 0), "nothing of that left a trace");
    let good = riding(sid, Some(Rider { ack, loose: false }), part, number, &event);
    world.session.handle_datagram(clock, server(0), &good).unwrap();
    world.drain();
    assert_eq!(world.events(), [(handle, EventMask::UPDATED)]);
}

#[test]
fn every_damaged_byte_of_an_extended_packet_is_noticed() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let handle = world.open(b"/file", EventMask::UPDATED);
    let (number, ack) = place(&world);
    let event = [handle.0.to_be_bytes().as_slice(), &1_u32.to_be_bytes(), &[0; 16]].concat();
    let part = Part::Only { xid: 1, op: Op::Event };
    let good = riding(world.session.id(), Some(Rider { ack, loose: false }), part, number, &event);
    let clock = world.clock();
    world.told.clear();
    for place in 0..good.len() {
        let mut damaged = good.clone();
        damaged[place] ^= 0x10;
        assert!(world.session.handle_datagram(clock, server(0), &damaged).is_err(), "byte {place}");
        assert!(world.session.handle_datagram(clock, server(0), &good[..place]).is_err(), "{place} bytes");
    }
    world.drain();
    assert_eq!(world.told, []);
    assert_eq!(world.session.handle_datagram(clock, server(0), &good), Ok(()));
}

/// Signed packets that are wrong in every way that there is, between calls, restarts and jumps in time.
fn any_packets<C: Client>(rounds: u64) {
    for seed in 0..rounds {
        let mut random = Random(seed);
        let mut world = connected::<C>(seed, Faults::NONE);
        let mode = OpenMode::READ | OpenMode::WRITE | OpenMode::LOCK | OpenMode::CREATE;
        for _ in 0..80 {
            let clock = world.clock();
            match random.below(9) {
                0 => drop(world.session.nop(clock)),
                1 => drop(world.session.get(clock, Handle(2))),
                2 => drop(world.session.open(clock, b"/x", mode, EventMask::UPDATED)),
                3 => drop(world.session.put(clock, Handle(2), &[1; 1_024])),
                4 => drop(world.session.lock(clock, Handle(2), LockFlags::NONE, true)),
                5 if random.percent(20) => world.servers[0].forgets ^= true,
                6 if random.percent(20) => world.client.set_port(40_000 + random.below(4) as u16),
                _ => {}
            }
            world.drain();
            for _ in 0..4 {
                let datagram = any_packet(&world, &mut random);
                let _ = world.session.handle_datagram(clock, server(0), &datagram);
                world.drain();
                assert!(world.told.len() < 2_000 && world.sent.len() < 5_000, "without end");
            }
            world.run_for(Duration::from_millis(random.below(700)));
            if world.end().is_some() {
                break;
            }
        }
    }
}

/// One that begins as a true packet does, and is changed before it is signed; or one made of chance alone.
fn any_packet<C: Client>(world: &Extended<C>, random: &mut Random) -> Vec<u8> {
    let sid = world.session.id();
    let pick = |flights: &[crate::support::network::Flight], random: &mut Random| {
        let index = random.below(flights.len() as u64) as usize;
        flights[index.max(flights.len().saturating_sub(8).min(index + 8))].bytes.clone()
    };
    let theirs = pick(&world.received, random);
    let ours = pick(&world.sent, random);
    let (theirs, ours) = (Packet::parse(&theirs).unwrap(), Packet::parse(&ours).unwrap());
    let xid = match ours.part {
        Part::Only { xid, .. } | Part::First { xid, .. } => xid,
        _ => random.next_u64(),
    };
    let ops =
        [Op::Nop, Op::Resume, Op::Event, Op::NewSess, Op::NotMaster, Op::Open, Op::Get, Op::Lock, Op::Put];
    let op = if random.percent(80) {
        ops[random.below(9) as usize]
    } else {
        Op::from_wire(random.below(80) as i32)
    };
    let name = if random.percent(50) { random.next_u64() } else { xid };
    let parts = [Part::Only { xid: name, op }, Part::First { xid: name, op }, Part::Middle, Part::Last];
    let part =
        if random.percent(40) { theirs.part } else { parts[random.below(4).min(random.below(4)) as usize] };
    let mut piece = theirs.piece.to_vec();
    match random.below(4) {
        0 => {
            let codes = [0, 0, 0, 67, 67, 12, 64, 66];
            let code = Code::from_wire(codes[random.below(8) as usize]);
            piece = done(op, xid, code).1;
            let more = random.below(300);
            piece.extend((0..more).map(|_| if random.percent(70) { 0 } else { random.next_u64() as u8 }));
        }
        1 if !piece.is_empty() => {
            let place = random.below(piece.len() as u64) as usize;
            piece[place] = random.next_u64() as u8;
        }
        2 => piece.truncate(random.below(piece.len() as u64 + 1) as usize),
        _ => {}
    }
    piece.truncate(PIECE);
    let number = match random.below(4) {
        0 => ours.number,
        1 => random.next_u64(),
        _ => theirs.number.wrapping_add(random.below(4)),
    };
    let (next, held) = match theirs.rider {
        Some(rider) => (rider.ack.next, rider.ack.held),
        None => (ours.number.wrapping_add(1), 0),
    };
    let ack = Ack {
        next: if random.percent(80) { next } else { ours.number.wrapping_add(random.below(3)) },
        held: if random.percent(80) { held } else { random.next_u64() >> random.below(64) },
    };
    let rider = Rider { ack, loose: random.percent(20) };
    riding(sid, random.percent(70).then_some(rider), part, number, &piece)
}

#[test]
fn no_signed_packets_make_an_extended_session_panic_or_run_without_end() {
    any_packets::<SmallSession>(60);
    any_packets::<FullSession>(12);
}

#[test]
fn a_session_that_was_sent_nonsense_from_strangers_works_on() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let mut random = Random(5);
    for _ in 0..2_000 {
        let mut datagram = any_packet(&world, &mut random);
        let place = random.below(datagram.len() as u64) as usize;
        datagram[place] ^= 1 << random.below(8);
        let clock = world.clock();
        assert!(world.session.handle_datagram(clock, server(0), &datagram).is_err());
    }
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
}
