//! How a session begins: which server, which id, and what it makes of refusals.

use cldc_core::session::{CallError, Config, ConfigError, End, Rejected, SmallSession};
use cldc_core::time::{Duration, Instant};
use cldc_core::wire::{Code, Op, Part};

use crate::support::bare::Bare;
use crate::support::client::{Came, Client, Told};
use crate::support::name_space::done;
use crate::support::network::Faults;
use crate::support::our_server::OurServer;
use crate::support::peer::{Peer, SECRET, USER, one_shot, packet, shifted};
use crate::support::world::{World, server};

everywhere! {
    a_lost_greeting_is_repaired
}

fn a_lost_greeting_is_repaired<C: Client, P: Peer>(server: fn(u64) -> P) {
    for seed in 0..40 {
        let mut world = World::<C, P>::connected(server(seed), seed, Faults::ROUGH);
        assert_eq!(world.call(Client::nop), Ok(Came::Done));
    }
}

type TwoServers = World<SmallSession, OurServer>;

#[test]
fn a_silent_server_is_left_for_the_next_one_after_the_patience() {
    let mut world = TwoServers::new(vec![OurServer::new(1), OurServer::new(2)], 1, Faults::CUT);
    world.run_for(Duration::from_millis(1_999));
    assert_eq!(world.session.address(), server(0));
    let first = world.session.id();
    world.run_for(Duration::from_millis(2));
    assert_eq!(world.session.address(), server(1));
    assert_ne!(world.session.id(), first, "an id is for one server");
    // Both are silent: round and round, at the pace of the patience.
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.session.address(), server(0));
    world.network.faults = Faults::NONE;
    world.run_until(|world| world.told == [Told::Connected]);
}

#[test]
fn a_server_that_is_not_the_master_is_left_at_once() {
    let mut world = TwoServers::new(vec![OurServer::new(1), OurServer::new(2)], 1, Faults::NONE);
    world.servers[0].is_follower = true;
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.told, [Told::Connected]);
    assert_eq!(world.session.address(), server(1));
}

#[test]
fn hails_not_master_with_its_shifted_footer_is_understood() {
    let servers = [server(0), server(1)];
    let mut session = SmallSession::begin(&Config::new(USER, SECRET, &servers, [1; 32]), Instant::START);
    let refusal = shifted(session.id(), Part::Only { xid: 3, op: Op::NotMaster }, 0xdead_beef, &[]);
    assert_eq!(session.handle_datagram(Instant::START, server(0), &refusal), Ok(()));
    assert_eq!(session.address(), server(1));
}

#[test]
fn servers_none_of_which_is_the_master_are_not_asked_round_and_round() {
    let mut world = TwoServers::new(vec![OurServer::new(1), OurServer::new(2)], 1, Faults::NONE);
    world.servers.iter_mut().for_each(|server| server.is_follower = true);
    world.run_for(Duration::from_secs(20));
    assert!(world.sent.len() < 100, "{} datagrams", world.sent.len());
    world.servers[0].is_follower = false;
    world.run_until(|world| world.told == [Told::Connected]);
    assert_eq!(world.session.address(), server(0));
}

#[test]
fn an_id_that_is_taken_is_replaced_by_another() {
    let mut world = TwoServers::new(vec![OurServer::new(1)], 1, Faults::NONE);
    world.servers[0].collisions = 3;
    let first = world.session.id();
    world.run_until(|world| world.told == [Told::Connected]);
    assert_ne!(world.session.id(), first);
    assert!(world.now.as_micros() < 1_100_000, "without waiting for a timer");
}

#[test]
fn a_refusal_is_told_with_its_reason_in_both_kinds_of_footer() {
    for is_shifted in [false, true] {
        let mut bare = Bare::<SmallSession>::new();
        let greeting = bare.only_sent();
        let sid = bare.session.id();
        let refusal = one_shot(sid, Op::NewSess, greeting.xid(), 0xdead_beef, Code::DbErr, is_shifted);
        assert_eq!(bare.receive(&refusal), Ok(()));
        assert_eq!(bare.told(), [Told::Ended(End::Refused(Code::DbErr))]);
        assert_eq!(bare.session.timeout(), None);
    }
}

#[test]
fn a_greeting_damaged_on_its_way_is_sent_again() {
    let mut bare = Bare::<SmallSession>::new();
    let greeting = bare.only_sent();
    let sid = bare.session.id();
    for code in [Code::SigInval, Code::SessInval] {
        for is_shifted in [false, true] {
            for op in [Op::NewSess, Op::Nop] {
                if (code, op) == (Code::SessInval, Op::NewSess) {
                    continue;
                }
                let refusal = one_shot(sid, op, greeting.xid(), greeting.number, code, is_shifted);
                assert!(bare.receive(&refusal).is_err());
            }
        }
    }
    assert_eq!(bare.told(), []);
    bare.wait(Duration::from_millis(250));
    assert_eq!(bare.only_sent(), greeting);
}

#[test]
fn answers_to_another_greeting_and_anything_before_the_answer_are_refused() {
    let mut bare = Bare::<SmallSession>::new();
    let greeting = bare.only_sent();
    assert_eq!(bare.say_at(5, done(Op::NewSess, greeting.xid() ^ 1, Code::Ok)), Err(Rejected::Number));
    assert_eq!(bare.say_at(6, (Op::Ping, Vec::new())), Err(Rejected::Number));
    let now = bare.now;
    assert_eq!(bare.session.nop(now), Err(CallError::NotConnected));
    assert_eq!(bare.session.end(now), Err(CallError::NotConnected));
    assert_eq!(bare.told(), []);
    assert_eq!(bare.sent(), []);
}

#[test]
fn datagrams_of_other_senders_sessions_users_and_keys_change_nothing() {
    let mut bare = Bare::<SmallSession>::connected(u64::MAX);
    let handle = bare.open(2);
    let now = bare.now;
    let sid = bare.session.id();
    bare.session.get(now, handle).unwrap();
    let request = bare.only_sent();
    let part = Part::Only { xid: 7, op: Op::Get };
    let (_, answer) = done(Op::Get, request.xid(), Code::ModeInval);
    let good = packet(sid, part, bare.next, &answer);

    let from_elsewhere = bare.session.handle_datagram(now, server(1), &good);
    assert_eq!(from_elsewhere, Err(Rejected::Address));
    assert_eq!(bare.receive(&packet(sid ^ 1, part, bare.next, &answer)), Err(Rejected::Session));
    for place in 0..good.len() {
        let mut damaged = good.clone();
        damaged[place] ^= 0x10;
        assert!(bare.receive(&damaged).is_err(), "byte {place}");
        assert!(bare.receive(&good[..place]).is_err(), "{place} bytes");
    }
    assert_eq!(bare.told(), []);
    assert_eq!(bare.sent(), []);
    assert_eq!(bare.receive(&good), Ok(()));
    assert_eq!(bare.told().len(), 1);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    let servers = [server(0); 9];
    let attempt = |user: &[u8], key: &[u8], count: usize| {
        let config = Config::new(user, key, &servers[..count], [0; 32]);
        SmallSession::new(&config, Instant::START).err()
    };
    assert_eq!(attempt(b"u", b"k", 1), None);
    assert_eq!(attempt(&[b'u'; 31], &[b'k'; 127], 8), None);
    assert_eq!(attempt(b"", b"k", 1), Some(ConfigError::User));
    assert_eq!(attempt(&[b'u'; 32], b"k", 1), Some(ConfigError::User));
    assert_eq!(attempt(b"u", b"", 1), Some(ConfigError::Key));
    assert_eq!(attempt(b"u", &[b'k'; 128], 1), Some(ConfigError::Key));
    assert_eq!(attempt(b"u", b"k", 0), Some(ConfigError::Servers));
    assert_eq!(attempt(b"u", b"k", servers.len()), Some(ConfigError::Servers));
}
