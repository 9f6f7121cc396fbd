//! Locks: one exclusive holder, first come first served, woken by every kind of release (protocol.md 8; failures.md 1, 3-5, 8, 9).

use cld_tests::raw::codes::lock::{EXCLUSIVE, SHARED};
use cld_tests::raw::codes::{code, event, mode};
use cld_tests::raw::{RawSession, Request};

use crate::servers::Servers;

/// `N` sessions, each with a handle on the file `/l`.
fn clients<const N: usize>(cld: &Servers) -> [(RawSession, u64); N] {
    std::array::from_fn(|i| {
        let mut session = cld.connect(&format!("user{i}"));
        let fh = session.create("/l");
        (session, fh)
    })
}

/// Waits for the grant of the lock that was waited for.
#[track_caller]
fn assert_granted((session, fh): &mut (RawSession, u64)) {
    assert_eq!(session.event(), (*fh, event::LOCKED));
}

/// Whether anything was granted so far.
#[track_caller]
fn assert_not_granted((session, _): &mut (RawSession, u64)) {
    assert_eq!(session.events_so_far(), []);
}

#[test]
fn a_granted_waiter_is_the_holder() {
    let cld = Servers::start();
    let [mut first, mut second, mut third] = clients(&cld);
    assert_eq!(first.0.lock(first.1, EXCLUSIVE), code::OK);
    assert_eq!(second.0.lock(second.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(first.0.close(first.1), code::OK);
    assert_granted(&mut second);
    for flags in [EXCLUSIVE, SHARED] {
        assert_eq!(third.0.try_lock(third.1, flags), code::LOCK_CONFLICT);
    }
    assert_eq!(third.0.unlock(third.1), code::LOCK_INVAL);
    assert_eq!(second.0.unlock(second.1), code::OK);
    assert_eq!(third.0.try_lock(third.1, EXCLUSIVE), code::OK);
    assert_not_granted(&mut second);
}

#[test]
fn unlock_wakes_the_next_waiter() {
    let cld = Servers::start();
    let [mut first, mut second] = clients(&cld);
    assert_eq!(first.0.lock(first.1, EXCLUSIVE), code::OK);
    assert_eq!(second.0.lock(second.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_not_granted(&mut second);
    assert_eq!(first.0.unlock(first.1), code::OK);
    assert_granted(&mut second);
}

#[test]
fn close_wakes_the_next_waiter() {
    let cld = Servers::start();
    let [mut first, mut second] = clients(&cld);
    assert_eq!(first.0.lock(first.1, EXCLUSIVE), code::OK);
    assert_eq!(second.0.lock(second.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(first.0.close(first.1), code::OK);
    assert_granted(&mut second);
}

#[test]
fn end_sess_wakes_the_next_waiter() {
    let cld = Servers::start();
    let [mut first, mut second] = clients(&cld);
    assert_eq!(first.0.lock(first.1, EXCLUSIVE), code::OK);
    assert_eq!(second.0.lock(second.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(first.0.call(&Request::EndSess).code, code::OK);
    assert_granted(&mut second);
}

#[test]
fn waiters_get_the_lock_in_the_order_of_their_requests() {
    let cld = Servers::start();
    // Session ids are random, so an order by id, within a second or not, would show.
    let mut clients: [(RawSession, u64); 12] = clients(&cld);
    for (i, (session, fh)) in clients.iter_mut().enumerate() {
        let expected = if i == 0 { code::OK } else { code::LOCK_PENDING };
        assert_eq!(session.lock(*fh, EXCLUSIVE), expected);
    }
    for at in 0..clients.len() {
        for waiter in &mut clients[at + 1..] {
            assert_not_granted(waiter);
        }
        let (session, fh) = &mut clients[at];
        assert_eq!(session.unlock(*fh), code::OK);
        if let Some(next) = clients.get_mut(at + 1) {
            assert_granted(next);
        }
    }
}

#[test]
fn shared_holders_share_and_keep_an_exclusive_one_out() {
    let cld = Servers::start();
    let [mut first, mut second, mut third] = clients(&cld);
    assert_eq!(first.0.lock(first.1, SHARED), code::OK);
    assert_eq!(second.0.try_lock(second.1, SHARED), code::OK);
    assert_eq!(third.0.try_lock(third.1, EXCLUSIVE), code::LOCK_CONFLICT);
    assert_eq!(third.0.lock(third.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(first.0.unlock(first.1), code::OK);
    assert_not_granted(&mut third);
    assert_eq!(second.0.unlock(second.1), code::OK);
    assert_granted(&mut third);
}

#[test]
fn a_shared_newcomer_does_not_overtake_an_exclusive_waiter() {
    let cld = Servers::start();
    let [mut holder, mut writer, mut reader, mut trier] = clients(&cld);
    assert_eq!(holder.0.lock(holder.1, SHARED), code::OK);
    assert_eq!(writer.0.lock(writer.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(reader.0.lock(reader.1, SHARED), code::LOCK_PENDING);
    assert_eq!(trier.0.try_lock(trier.1, SHARED), code::LOCK_CONFLICT);
    assert_eq!(holder.0.unlock(holder.1), code::OK);
    assert_granted(&mut writer);
    assert_not_granted(&mut reader);
    assert_eq!(writer.0.unlock(writer.1), code::OK);
    assert_granted(&mut reader);
}

#[test]
fn a_run_of_shared_waiters_is_granted_together_up_to_the_next_exclusive_one() {
    let cld = Servers::start();
    let [mut holder, mut one, mut two, mut writer, mut three] = clients(&cld);
    assert_eq!(holder.0.lock(holder.1, EXCLUSIVE), code::OK);
    for (client, flags) in
        [(&mut one, SHARED), (&mut two, SHARED), (&mut writer, EXCLUSIVE), (&mut three, SHARED)]
    {
        assert_eq!(client.0.lock(client.1, flags), code::LOCK_PENDING);
    }
    assert_eq!(holder.0.unlock(holder.1), code::OK);
    assert_granted(&mut one);
    assert_granted(&mut two);
    assert_not_granted(&mut writer);
    assert_not_granted(&mut three);
    assert_eq!(one.0.close(one.1), code::OK);
    assert_not_granted(&mut writer);
    assert_eq!(two.0.close(two.1), code::OK);
    assert_granted(&mut writer);
    assert_not_granted(&mut three);
}

#[test]
fn an_exclusive_waiter_is_granted_alone() {
    let cld = Servers::start();
    let [mut holder, mut writer, mut reader] = clients(&cld);
    assert_eq!(holder.0.lock(holder.1, EXCLUSIVE), code::OK);
    assert_eq!(writer.0.lock(writer.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(reader.0.lock(reader.1, SHARED), code::LOCK_PENDING);
    assert_eq!(holder.0.close(holder.1), code::OK);
    assert_granted(&mut writer);
    assert_not_granted(&mut reader);
}

#[test]
fn unlock_cancels_waiting_and_lets_those_behind_go_on() {
    let cld = Servers::start();
    let [mut holder, mut writer, mut reader] = clients(&cld);
    assert_eq!(holder.0.lock(holder.1, SHARED), code::OK);
    assert_eq!(writer.0.lock(writer.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(reader.0.lock(reader.1, SHARED), code::LOCK_PENDING);
    assert_eq!(writer.0.unlock(writer.1), code::OK);
    assert_granted(&mut reader);
    assert_eq!(holder.0.unlock(holder.1), code::OK);
    assert_not_granted(&mut writer);
    assert_eq!(writer.0.unlock(writer.1), code::LOCK_INVAL);
}

#[test]
fn closing_or_ending_cancels_waiting() {
    let cld = Servers::start();
    let [mut holder, mut closer, mut ender, mut last] = clients(&cld);
    assert_eq!(holder.0.lock(holder.1, EXCLUSIVE), code::OK);
    for client in [&mut closer, &mut ender, &mut last] {
        assert_eq!(client.0.lock(client.1, EXCLUSIVE), code::LOCK_PENDING);
    }
    assert_eq!(closer.0.close(closer.1), code::OK);
    assert_eq!(ender.0.call(&Request::EndSess).code, code::OK);
    assert_eq!(holder.0.unlock(holder.1), code::OK);
    assert_granted(&mut last);
    assert_not_granted(&mut closer);
}

#[test]
fn a_handle_that_holds_or_waits_cannot_lock_again() {
    let cld = Servers::start();
    let [mut holder, mut waiter] = clients(&cld);
    for (first, second) in
        [(EXCLUSIVE, EXCLUSIVE), (EXCLUSIVE, SHARED), (SHARED, SHARED), (SHARED, EXCLUSIVE)]
    {
        assert_eq!(holder.0.lock(holder.1, first), code::OK);
        assert_eq!(holder.0.lock(holder.1, second), code::LOCK_CONFLICT);
        assert_eq!(holder.0.try_lock(holder.1, second), code::LOCK_CONFLICT);
        assert_eq!(holder.0.unlock(holder.1), code::OK);
        assert_eq!(holder.0.unlock(holder.1), code::LOCK_INVAL);
    }
    assert_eq!(holder.0.lock(holder.1, EXCLUSIVE), code::OK);
    assert_eq!(waiter.0.lock(waiter.1, SHARED), code::LOCK_PENDING);
    assert_eq!(waiter.0.lock(waiter.1, SHARED), code::LOCK_CONFLICT);
    assert_eq!(holder.0.unlock(holder.1), code::OK);
    assert_granted(&mut waiter);
    assert_not_granted(&mut waiter);
}

#[test]
fn a_lock_belongs_to_the_handle_not_to_the_session() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let (one, two) = (session.create("/l"), session.create("/l"));
    assert_eq!(session.lock(one, EXCLUSIVE), code::OK);
    assert_eq!(session.try_lock(two, EXCLUSIVE), code::LOCK_CONFLICT);
    assert_eq!(session.unlock(two), code::LOCK_INVAL);
    assert_eq!(session.lock(two, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(session.unlock(one), code::OK);
    assert_eq!(session.event(), (two, event::LOCKED));
}

#[test]
fn closing_one_handle_keeps_the_locks_of_the_others() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let mut other = cld.connect("other");
    let (kept, kept_too, closed) = (session.create("/kept"), session.create("/l"), session.create("/l"));
    assert_eq!(session.lock(kept, EXCLUSIVE), code::OK);
    assert_eq!(session.lock(kept_too, SHARED), code::OK);
    assert_eq!(session.lock(closed, SHARED), code::OK);
    assert_eq!(session.close(closed), code::OK);
    for path in ["/kept", "/l"] {
        let fh = other.create(path);
        assert_eq!(other.try_lock(fh, EXCLUSIVE), code::LOCK_CONFLICT, "{path}");
    }
}

#[test]
fn locks_of_files_do_not_mix() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    let (one, two) = (session.create("/one"), session.create("/two"));
    assert_eq!(session.lock(one, EXCLUSIVE), code::OK);
    assert_eq!(session.lock(two, EXCLUSIVE), code::OK);
}

#[test]
fn a_directory_can_be_locked() {
    let cld = Servers::start();
    let mut clients: [(RawSession, u64); 2] = std::array::from_fn(|i| {
        let mut session = cld.connect(&format!("user{i}"));
        let fh = session.open("/", mode::LOCK | mode::DIRECTORY, 0).unwrap();
        (session, fh)
    });
    let [first, second] = &mut clients;
    assert_eq!(first.0.lock(first.1, EXCLUSIVE), code::OK);
    assert_eq!(second.0.lock(second.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(first.0.unlock(first.1), code::OK);
    assert_granted(second);
}

#[test]
fn what_was_not_opened_for_locking_cannot_be_locked() {
    let cld = Servers::start();
    let mut session = cld.connect("tester");
    session.create("/l");
    let fh = session.open("/l", mode::READ | mode::WRITE, 0).unwrap();
    for outcome in [session.lock(fh, EXCLUSIVE), session.try_lock(fh, SHARED), session.unlock(fh)] {
        assert_eq!(outcome, code::MODE_INVAL);
    }
    for outcome in [session.lock(99, EXCLUSIVE), session.try_lock(99, SHARED), session.unlock(99)] {
        assert_eq!(outcome, code::FH_INVAL);
    }
}

#[test]
fn deleting_a_file_deletes_its_lock() {
    let cld = Servers::start();
    let [mut holder, mut waiter] = clients(&cld);
    assert_eq!(holder.0.lock(holder.1, EXCLUSIVE), code::OK);
    assert_eq!(waiter.0.lock(waiter.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(holder.0.del("/l"), code::OK);
    assert_eq!(
        waiter.0.event(),
        (waiter.1, event::DELETED),
        "a waiter is told that there is nothing to wait for"
    );
    assert_eq!(holder.0.unlock(holder.1), code::FH_INVAL);
    let again = waiter.0.create("/l");
    assert_eq!(waiter.0.try_lock(again, EXCLUSIVE), code::OK, "the new file's lock is free");
}

#[test]
fn a_lock_request_sent_twice_is_one_claim() {
    let cld = Servers::start();
    let [mut holder, mut waiter] = clients(&cld);
    let (xid, datagrams) = holder.0.prepare(&Request::Lock { fh: holder.1, flags: EXCLUSIVE });
    for _ in 0..3 {
        holder.0.send_all(&datagrams);
    }
    assert_eq!(holder.0.reply(xid).code, code::OK);
    assert_eq!(waiter.0.lock(waiter.1, EXCLUSIVE), code::LOCK_PENDING);
    assert_eq!(holder.0.unlock(holder.1), code::OK);
    assert_granted(&mut waiter);
}
