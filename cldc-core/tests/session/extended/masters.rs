//! Who the master is: servers that are not say so, and may be wrong (docs/protocol.md 7.5).

use cldc_core::session::{End, FullSession, Rejected, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::extended::{Addresses, Master};
use cldc_core::wire::{Ack, Code, EventMask, Op, Packet, Part, Rider};

use super::{Extended, connected, count, hand_over, seconds, with_two_servers};
use crate::support::client::{Came, Client, Told};
use crate::support::extended_server::{ExtendedServer, riding};
use crate::support::name_space::bytes;
use crate::support::network::Faults;
use crate::support::peer::{one_shot, packet};
use crate::support::world::{CLIENT, server};

#[test]
fn new_sess_goes_where_a_follower_says_though_nobody_told_the_address_before() {
    let servers = vec![ExtendedServer::follower(1, Some(server(1))), ExtendedServer::new(2)];
    let mut world = Extended::<SmallSession>::with(servers, 1, Faults::NONE, |config| {
        config.servers = &config.servers[..1];
    });
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.told, [Told::Connected]);
    assert_eq!(world.session.address(), server(1));
}

#[test]
fn a_silent_master_is_left_for_the_next_server_and_its_locks_come_along() {
    let mut world = with_two_servers::<SmallSession>(1);
    let handle = world.open(b"/file", EventMask::NONE);
    hand_over(&mut world);
    world.silent.push(server(0));
    let begin = world.now;
    assert_eq!(world.call(|session, now| session.put(now, handle, b"x")), Ok(Came::Done));
    assert_eq!(world.session.address(), server(1));
    assert!(seconds(begin, world.now) < 0.2, "{} s: two resends", seconds(begin, world.now));
}

#[test]
fn a_master_that_has_taken_a_request_and_answers_no_more_is_left_soon() {
    let mut world = with_two_servers::<SmallSession>(1);
    let handle = world.open(b"/file", EventMask::NONE);
    hand_over(&mut world);
    world.silent.push(server(0));
    let (begin, clock) = (world.now, world.clock());
    let request = world.session.put(clock, handle, b"x").unwrap();
    world.run_for(Duration::from_millis(1));
    let number = Packet::parse(&world.sent.last().unwrap().bytes).unwrap().number;
    let rider = Rider { ack: Ack { next: number.wrapping_add(1), held: 0 }, loose: true };
    let taken = riding(world.session.id(), Some(rider), Part::Only { xid: 0, op: Op::Ack }, 0, &[]);
    let clock = world.clock();
    assert_eq!(world.session.handle_datagram(clock, server(0), &taken), Ok(()));
    assert_eq!(world.answer(request), Ok(Came::Done));
    assert_eq!(world.session.address(), server(1));
    assert!(seconds(begin, world.now) < 1.0, "{} s", seconds(begin, world.now));
}

#[test]
fn an_idle_session_notices_a_silent_master_by_its_nops() {
    let mut world = with_two_servers::<SmallSession>(1);
    hand_over(&mut world);
    world.silent.push(server(0));
    world.run_for(Duration::from_secs(14));
    assert_eq!(world.session.address(), server(1));
    assert_eq!(world.told, [Told::Connected, Told::Failover(8)], "never in doubt");
}

#[test]
fn a_session_that_waits_hears_of_a_fail_over_from_the_new_master_itself() {
    let mut world = with_two_servers::<SmallSession>(1);
    let sid = world.session.id();
    hand_over(&mut world);
    world.silent.push(server(0));
    world.servers[1].hint(sid, 0, 0, CLIENT);
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.session.address(), server(1));
    assert_eq!(world.told, [Told::Connected, Told::Failover(8)]);
}

#[test]
fn nobody_but_a_server_of_the_cell_is_heard() {
    let mut world = with_two_servers::<SmallSession>(1);
    world.servers[1].hint(world.session.id(), 0, 0, CLIENT);
    let (_, hint) = crate::support::peer::Peer::transmit(&mut world.servers[1], world.now).unwrap();
    let clock = world.clock();
    assert_eq!(world.session.handle_datagram(clock, server(5), &hint), Err(Rejected::Address));
    // Nor is what only the session's own server may say.
    let (sid, end) = (world.session.id(), Part::Only { xid: 1, op: Op::NotMaster });
    let not_master = packet(sid, end, 1, &bytes(|out| Master { epoch: 9, address: None }.emit(out)));
    assert_eq!(world.session.handle_datagram(clock, server(1), &not_master), Err(Rejected::Address));
    assert_eq!(world.session.handle_datagram(clock, server(1), &hint), Ok(()));
    assert_eq!(world.session.address(), server(1));
}

#[test]
fn a_challenge_that_comes_after_the_next_server_was_asked_counts() {
    let mut world = with_two_servers::<SmallSession>(1);
    hand_over(&mut world);
    world.silent.extend([server(0), server(1)]);
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    world.run_until(|world| world.sent.iter().any(|sent| sent.to == server(1)));
    let asked = world.sent.last().unwrap().bytes.clone();
    world.run_until(|world| world.sent.last().unwrap().to == server(0));
    let now = world.now;
    world.silent.pop();
    crate::support::peer::Peer::receive(&mut world.servers[1], now, CLIENT, &asked);
    assert_eq!(world.answer(request), Ok(Came::Done));
    assert!(seconds(now, world.now) < 0.02, "{} s", seconds(now, world.now));
}

/// How many packets a session with a request sends in the first second without a master, in 20 s, and in a minute.
fn sent_without_a_master(silent: &[usize]) -> (usize, usize, usize) {
    let followers = (2..4).map(|seed| ExtendedServer::follower(seed, None));
    let servers = std::iter::once(ExtendedServer::new(1)).chain(followers).collect();
    let mut world = Extended::<SmallSession>::new(servers, 1, Faults::NONE);
    world.run_until(|world| world.told == [Told::Connected]);
    world.silent.extend(silent.iter().map(|&index| server(index)));
    world.sent.clear();
    let clock = world.clock();
    world.session.nop(clock).unwrap();
    let mut sent = [1, 19, 40].into_iter().map(|span| {
        world.run_for(Duration::from_secs(span));
        world.sent.len()
    });
    (sent.next().unwrap(), sent.next().unwrap(), sent.next().unwrap())
}

#[test]
fn servers_that_are_all_dead_are_asked_less_and_less_often() {
    let (first, soon, later) = sent_without_a_master(&[0, 1, 2]);
    assert!((8..=15).contains(&first) && soon <= 50, "{first}, {soon}");
    assert!(later - soon <= 46 && later > soon + 30, "once in a second: {}", later - soon);
}

#[test]
fn followers_of_a_dead_master_are_asked_at_a_bounded_rate() {
    let (first, soon, later) = sent_without_a_master(&[0]);
    assert!(first <= 36 && soon <= 120, "{first}, {soon}");
    assert!(later - soon <= 3 * 46, "at most all in each turn: {}", later - soon);
}

#[test]
fn a_server_alone_in_its_cell_is_asked_for_longer_before_the_session_resumes() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.silent.push(server(0));
    let begin = world.now;
    world.session.nop(begin).unwrap();
    world.run_until(|world| count(&world.sent, Op::Resume) > 0);
    assert!(seconds(begin, world.now) > 0.3, "after three resends: {} s", seconds(begin, world.now));
}

#[test]
fn the_list_of_servers_is_told_again_to_an_idle_session_and_replaces_the_one_before() {
    let mut servers =
        vec![ExtendedServer::new(1), ExtendedServer::follower(2, None), ExtendedServer::follower(3, None)];
    servers[0].welcome.servers.extend([server(0), server(1)]);
    let mut world = Extended::<SmallSession>::with(servers, 1, Faults::NONE, |config| {
        config.servers = &config.servers[..1];
    });
    world.run_until(|world| world.told == [Told::Connected]);
    world.servers[0].welcome.servers = [server(0), server(2)].into_iter().collect();
    world.run_for(Duration::from_secs(11));
    let now = world.now;
    let [from, _, to] = &mut world.servers[..] else { panic!("three servers") };
    from.hand_over(now, to, server(2));
    world.silent.push(server(0));
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    assert_eq!((world.session.address(), world.servers[1].refusals), (server(2), 0));
}

#[test]
fn a_busy_session_asks_now_and_then_what_is_new() {
    let mut world = with_two_servers::<SmallSession>(1);
    let handle = world.open(b"/file", EventMask::NONE);
    world.servers[0].welcome.servers = [server(0), server(7)].into_iter().collect();
    for _ in 0..100 {
        assert_eq!(world.call(|session, now| session.put(now, handle, b"x")), Ok(Came::Done));
        world.run_for(Duration::from_millis(1_000));
    }
    assert_eq!(world.servers[0].nops, 3, "in 100 s");
    world.silent.push(server(0));
    world.sent.clear();
    let clock = world.clock();
    world.session.nop(clock).unwrap();
    world.run_for(Duration::from_secs(1));
    assert!(world.sent.iter().any(|sent| sent.to == server(7)), "it knows the newcomer");
}

#[test]
fn a_server_that_was_removed_leads_on_to_those_that_it_knows() {
    let mut removed = ExtendedServer::follower(1, None);
    removed.welcome.servers.push(server(1)).unwrap();
    let servers = vec![removed, ExtendedServer::new(2)];
    let mut world = Extended::<SmallSession>::with(servers, 1, Faults::NONE, |config| {
        config.servers = &config.servers[..1];
    });
    world.run_for(Duration::from_millis(20));
    assert_eq!((&world.told[..], world.session.address()), (&[Told::Connected][..], server(1)));
}

#[test]
fn servers_that_the_welcome_names_are_tried_when_the_master_is_silent() {
    let mut first = ExtendedServer::new(1);
    first.welcome.servers.extend([server(1), server(0)]);
    let servers = vec![first, ExtendedServer::follower(2, None)];
    let mut world = Extended::<SmallSession>::with(servers, 1, Faults::NONE, |config| {
        config.servers = &config.servers[..1];
    });
    world.run_until(|world| world.told == [Told::Connected]);
    hand_over(&mut world);
    world.silent.push(server(0));
    assert_eq!(world.call(Client::nop), Ok(Came::Done));
    assert_eq!(world.session.address(), server(1));
}

#[test]
fn more_servers_than_there_is_room_for_are_not_learnt_and_do_no_harm() {
    let mut first = ExtendedServer::new(1);
    first.welcome.servers = (1..6).map(server).collect::<Addresses>();
    let mut world = Extended::<SmallSession>::with(vec![first], 1, Faults::NONE, |_| {});
    world.run_until(|world| world.told == [Told::Connected]);
    for round in 0..4 {
        world.servers[0].welcome.servers = (6..11).map(|index| server(index + 5 * round)).collect();
        let now = world.now;
        crate::support::peer::Peer::restart(&mut world.servers[0], now);
        assert_eq!(world.call(Client::nop), Ok(Came::Done));
    }
    assert_eq!(world.end(), None);
}

/// The answer of a server that is not the master to the packet sent last with this operation.
fn not_master<C: Client>(world: &Extended<C>, op: Op, master: Master) -> Vec<u8> {
    let asked = world.sent.iter().rev().map(|sent| Packet::parse(&sent.bytes).unwrap());
    let number = asked.into_iter().find(|sent| sent.part.op() == Some(op)).unwrap().number;
    let part = Part::Only { xid: 1, op: Op::NotMaster };
    packet(world.session.id(), part, number, &bytes(|out| master.emit(out)))
}

#[test]
fn a_server_that_lags_behind_is_not_believed() {
    let mut world = with_two_servers::<SmallSession>(1);
    world.network.faults = Faults::CUT;
    let clock = world.clock();
    world.session.nop(clock).unwrap();
    world.drain();
    let stale = not_master(&world, Op::Nop, Master { epoch: 6, address: Some(server(5)) });
    world.session.handle_datagram(clock, server(0), &stale).unwrap();
    assert_eq!(world.session.address(), server(1), "the next one, not the one it names");
    let now = world.now;
    world.watch(Duration::from_secs(10), |world| assert_ne!(world.session.address(), server(5)));
    assert!(world.now > now);
}

#[test]
fn an_epoch_below_one_that_was_heard_of_is_no_masters() {
    let mut world = with_two_servers::<SmallSession>(1);
    let handle = world.open(b"/file", EventMask::NONE);
    // The second server is the master of epoch 9, and gone again; the first one knows nothing of it.
    world.silent.push(server(1));
    let clock = world.clock();
    world.session.put(clock, handle, b"x").unwrap();
    world.drain();
    let newer = not_master(&world, Op::Put, Master { epoch: 9, address: Some(server(1)) });
    world.session.handle_datagram(clock, server(0), &newer).unwrap();
    let resumes = world.servers[0].resumes;
    world.run_for(Duration::from_secs(10));
    assert!(world.servers[0].resumes > resumes, "it has been asked");
    assert_eq!(world.session.current_epoch(), Some(7));
    assert!(!world.told.iter().any(|told| matches!(told, Told::Done(_, Ok(Came::Done)))));
    hand_over(&mut world);
    world.servers[1].replica.as_mut().unwrap().epoch = 9;
    world.silent.clear();
    world.run_for(Duration::from_secs(10));
    assert!(world.told.iter().any(|told| matches!(told, Told::Done(_, Ok(Came::Done)))));
    assert_eq!(world.session.current_epoch(), Some(9));
}

#[test]
fn servers_that_name_each_other_are_not_asked_round_and_round() {
    let mut world = with_two_servers::<SmallSession>(1);
    hand_over(&mut world);
    let replica = world.servers[1].replica.take();
    world.servers[0].master.address = Some(server(1));
    world.servers[1].master.address = Some(server(0));
    world.sent.clear();
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    world.run_for(Duration::from_secs(20));
    assert!(world.sent.len() < 120, "{} datagrams in 20 s", world.sent.len());
    world.servers[1].replica = replica;
    assert_eq!(world.answer(request), Ok(Came::Done));
}

#[test]
fn nobody_is_followed_for_a_packet_that_was_not_sent() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    let clock = world.clock();
    let master = Master { epoch: 99, address: Some(server(5)) };
    let part = Part::Only { xid: 1, op: Op::NotMaster };
    let sid = world.session.id();
    for body in [bytes(|out| master.emit(out)), Vec::new()] {
        let datagram = packet(sid, part, 0xdead_beef, &body);
        assert_eq!(world.session.handle_datagram(clock, server(0), &datagram), Err(Rejected::Number));
    }
    assert_eq!(world.session.address(), server(0));
}

#[test]
fn a_session_that_the_master_does_not_know_is_expired() {
    let mut world = with_two_servers::<FullSession>(1);
    let sid = world.session.id();
    hand_over(&mut world);
    crate::support::peer::Peer::forget(&mut world.servers[1], sid);
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    world.run_for(Duration::from_secs(1));
    assert!(world.told.ends_with(&[Told::Done(request, Err(Code::Timeout)), Told::Ended(End::Expired)]));
    assert_eq!(count(&world.sent, Op::Resume), 1);
}

#[test]
fn a_master_that_refuses_to_resume_for_now_is_asked_again_without_haste() {
    let mut world = connected::<SmallSession>(1, Faults::NONE);
    world.network.faults = Faults::CUT;
    world.servers[0].keeps_for = Some(Duration::from_secs(600));
    world.client.set_port(50_000);
    let clock = world.clock();
    let request = world.session.nop(clock).unwrap();
    world.run_until(|world| count(&world.sent, Op::Resume) == 1);
    for _ in 0..20 {
        let last = world.sent.last().unwrap().bytes.clone();
        let resume = Packet::parse(&last).unwrap();
        let Part::Only { xid, .. } = resume.part else { panic!() };
        let refusal = one_shot(world.session.id(), Op::Resume, xid, resume.number, Code::TooLarge, false);
        let clock = world.clock();
        let _ = world.session.handle_datagram(clock, server(0), &refusal);
        world.run_for(Duration::from_millis(500));
    }
    assert!(count(&world.sent, Op::Resume) < 40);
    world.network.faults = Faults::NONE;
    assert_eq!(world.answer(request), Ok(Came::Done));
}
