//! Leases and what keeps them (docs/protocol.md 7.3).

use std::time::{Duration, Instant};

use cld_tests::observe::Figures;
use cld_tests::raw::codes::{code, event, lock};
use cld_tests::raw::extended::Extended;
use cld_tests::server::Cld;

use super::{SHORTEST, connect, connect_briefly};

const LEASE: Duration = Duration::from_millis(SHORTEST as u64);
/// How long after the end of a lease the server may take to tell of it.
const SLACK: Duration = Duration::from_secs(2);
/// How often a lease is renewed: at a third of it.
const THIRD: Duration = Duration::from_millis(SHORTEST as u64 / 3);

/// Somebody who waits for the lock that `holder` holds: told at the end of the holder's session.
#[track_caller]
fn waiter(cld: &Cld, holder: &mut Extended) -> Extended {
    let held = holder.create("/l");
    assert!(holder.lock(held, lock::EXCLUSIVE).is_ok());
    let mut waiter = connect(cld, "waiter");
    let wanted = waiter.create("/l");
    assert_eq!(waiter.lock(wanted, lock::EXCLUSIVE), Err(code::LOCK_PENDING));
    waiter
}

/// The session that was last heard of then ends when its lease is over, and not before.
#[track_caller]
fn assert_ends(waiter: &mut Extended, heard: Instant) {
    assert_eq!(waiter.event().events, event::LOCKED);
    let lived = heard.elapsed();
    assert!(LEASE <= lived && lived < LEASE + SLACK, "{lived:?}");
}

#[test]
fn a_keepalive_is_one_packet_each_way_and_no_entry_of_the_log() {
    const COUNT: u64 = 50;
    let mut cld = Cld::start();
    let mut client = connect(&cld, "tester");
    client.create("/f");
    client.settle();
    // The acknowledgement of what was said before may still be on its way.
    client.listen(Duration::from_millis(50));
    let before = Figures::of(&mut cld);
    let (sent, received) = (client.sent, client.received);
    for _ in 0..COUNT {
        assert_eq!(client.settle(), before.get("epoch"));
    }
    let after = Figures::of(&mut cld);
    let (sent, received) = (client.sent.since(sent), client.received.since(received));
    println!("each keepalive: {} bytes there, {} back", sent.bytes / COUNT, received.bytes / COUNT);
    assert_eq!((sent.packets, received.packets), (COUNT, COUNT));
    assert_eq!(after.get("last_index"), before.get("last_index"));
    assert_eq!(after.get("sent") - before.get("sent"), COUNT);
}

#[test]
fn a_keepalive_that_is_asked_again_gets_its_answer_again() {
    let cld = Cld::start();
    let mut client = connect(&cld, "tester");
    let (xid, nop) = client.prepare_nop();
    client.send_all(&[nop.clone(), nop]);
    let [one, other] = [client.reply(xid), client.reply(xid)];
    assert_eq!((one.hyper(), one.message.number), (other.hyper(), other.message.number));
}

#[test]
fn keepalives_alone_keep_a_session_and_without_them_it_ends() {
    let cld = Cld::start();
    let mut holder = connect_briefly(&cld, "holder");
    let mut waiter = waiter(&cld, &mut holder);
    let (began, mut heard) = (Instant::now(), Instant::now());
    while began.elapsed() < LEASE * 2 {
        assert!(waiter.events_so_far().is_empty(), "the session ended after {:?}", began.elapsed());
        heard = Instant::now();
        holder.settle();
        holder.listen(THIRD);
    }
    assert_ends(&mut waiter, heard);
    // It is told so.
    let (xid, nop) = holder.prepare_nop();
    holder.send(&nop);
    assert_eq!(holder.reply(xid).code, code::SESS_INVAL);
}

#[test]
fn a_keepalive_that_was_heard_before_renews_nothing() {
    let cld = Cld::start();
    let mut holder = connect_briefly(&cld, "holder");
    let mut waiter = waiter(&cld, &mut holder);
    let (xid, nop) = holder.prepare_nop();
    let heard = Instant::now();
    holder.send(&nop);
    assert_eq!(holder.reply(xid).code, code::OK);
    while heard.elapsed() < LEASE + SLACK {
        holder.send(&nop);
        // What else comes is answered, and so acknowledged by nothing new.
        holder.listen(Duration::from_millis(100));
        if !waiter.inbox().is_empty()
            || waiter.try_wait(Duration::ZERO, |inbox| inbox.front().map(drop)).is_some()
        {
            break;
        }
    }
    assert_ends(&mut waiter, heard);
}

#[test]
fn a_request_renews_the_lease_and_the_copy_of_one_does_not() {
    let cld = Cld::start();
    let mut holder = connect_briefly(&cld, "holder");
    let mut waiter = waiter(&cld, &mut holder);
    holder.listen(THIRD * 2);
    let heard = Instant::now();
    let fh = holder.create("/f");
    let (xid, put) = holder.prepare(cld_tests::raw::codes::op::PUT, &fh_and(fh, b"x"));
    holder.send_all(&put);
    assert_eq!(holder.reply(xid).code, code::OK);
    let last = Instant::now();
    while last.elapsed() < LEASE + SLACK && waiter.inbox().is_empty() {
        holder.send_all(&put);
        holder.listen(Duration::from_millis(100));
        waiter.listen(Duration::from_millis(1));
    }
    assert_ends(&mut waiter, heard);
}

/// The body of PUT.
fn fh_and(fh: u64, data: &[u8]) -> Vec<u8> {
    cld_tests::raw::Request::Put { fh, data: data.to_vec() }.encode()
}

#[test]
fn a_server_that_was_stopped_hears_its_clients_before_it_judges_their_leases() {
    let mut cld = Cld::start();
    let mut client = connect_briefly(&cld, "patient");
    let held = client.create("/l");
    assert!(client.lock(held, lock::EXCLUSIVE).is_ok());
    // It sleeps when it is stopped, and has seen nothing come when it goes on.
    client.listen(Duration::from_millis(100));
    cld.stop();
    client.listen(Duration::from_millis(100));
    let (_, early) = client.prepare_nop();
    let (xid, nop) = client.prepare_nop();
    client.send_all(&[early, nop]);
    // Its lease runs out by the server's clock: that it passes is what is tested.
    client.listen(LEASE);
    let (resuming, resume) = client.prepare_resume(1 << 40, 0);
    client.send(&resume);
    cld.cont();
    assert_eq!(client.reply(xid).code, code::OK);
    assert_eq!(client.reply(resuming).code, code::CHALLENGE);
    assert_eq!(client.unlock(held), code::OK);
    assert_eq!(Figures::of(&mut cld).get("expired"), 0);
}
