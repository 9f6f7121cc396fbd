//! Locks, as clients see them. (The queue itself is compared with a model in `lock`; generations are in `sequencers`.)

use super::*;

/// A cell where sessions 1, 2 and 3 have handle 2 on /l, for locking.
fn cell() -> Cell {
    let mut cell = Cell::new();
    for sid in 1..=3 {
        assert_eq!(cell.open(sid, "/l", CREATE | LOCK, NONE), 2);
    }
    cell
}

fn unlock(cell: &mut Cell, sid: u64) -> Effects {
    cell.write(sid, Write::Unlock { fh: 2 })
}

// 1
#[test]
fn a_promoted_waiter_is_the_holder() {
    let mut cell = cell();
    assert_eq!(cell.lock(1, 2), Code::Ok);
    assert_eq!(cell.lock(2, 2), Code::LockPending);
    cell.write(1, Write::Close { fh: 2 });
    assert_eq!(cell.queue("/l"), (vec![2], vec![]));
    assert_eq!(cell.try_lock(3, 2), Code::LockConflict);
}

// 3
#[test]
fn unlock_wakes_the_next_waiter() {
    let mut cell = cell();
    cell.lock(1, 2);
    cell.lock(2, 2);
    cell.lock(3, 2);
    let effects = unlock(&mut cell, 1);
    assert_eq!((effects.reply, told(&effects)), (Some(Reply::OK), vec![(2, 2, LOCKED)]));
    assert_eq!(cell.queue("/l"), (vec![2], vec![3]));
}

#[test]
fn close_end_of_session_and_expiry_wake_the_next_waiter() {
    for end in ["close", "end", "expire"] {
        let mut cell = cell();
        cell.lock(1, 2);
        cell.lock(2, 2);
        let effects = match end {
            "close" => cell.write(1, Write::Close { fh: 2 }),
            "end" => cell.write(1, Write::EndSession),
            _ => cell.expire(1),
        };
        assert_eq!(told(&effects), [(2, 2, LOCKED)], "{end}");
        assert_eq!(cell.queue("/l"), (vec![2], vec![]), "{end}");
    }
}

// 5
#[test]
fn end_of_session_releases_its_locks_at_once() {
    let mut cell = cell();
    cell.lock(1, 2);
    cell.write(1, Write::EndSession);
    assert_eq!(cell.try_lock(2, 2), Code::Ok);
}

// 4
#[test]
fn waiters_are_served_in_the_order_of_arrival_whatever_their_session_or_the_clock() {
    let mut cell = cell();
    cell.lock(2, 2);
    cell.at = 500;
    cell.lock(3, 2);
    cell.at = 400;
    cell.lock(1, 2);
    assert_eq!(cell.queue("/l"), (vec![2], vec![3, 1]));
    unlock(&mut cell, 2);
    assert_eq!(cell.queue("/l"), (vec![3], vec![1]));
}

// 4
#[test]
fn a_newcomer_that_shares_does_not_overtake_a_waiting_exclusive_locker() {
    let mut cell = cell();
    assert_eq!(cell.share(1, 2), Code::Ok);
    assert_eq!(cell.lock(2, 2), Code::LockPending);
    let shared = Write::Lock { fh: 2, flags: LockFlags::SHARED, wait: false };
    assert_eq!(cell.code(3, shared), Code::LockConflict);
    assert_eq!(cell.share(3, 2), Code::LockPending);
    unlock(&mut cell, 1);
    assert_eq!(cell.queue("/l"), (vec![2], vec![3]));
}

#[test]
fn shared_locks_are_held_together_and_a_run_of_them_is_granted_together() {
    let mut cell = cell();
    let second = cell.open(1, "/l", LOCK, NONE);
    cell.lock(1, 2);
    cell.share(2, 2);
    cell.share(3, 2);
    cell.lock(1, second);
    let effects = unlock(&mut cell, 1);
    assert_eq!(told(&effects), [(2, 2, LOCKED), (3, 2, LOCKED)]);
    assert_eq!(cell.queue("/l"), (vec![2, 3], vec![1]));
    assert!(told(&unlock(&mut cell, 2)).is_empty(), "one of two holders leaves nobody the lock");
    assert_eq!(told(&unlock(&mut cell, 3)), [(1, second, LOCKED)]);
}

#[test]
fn unlock_of_a_waiting_request_leaves_the_queue_and_lets_those_behind_through() {
    let mut cell = cell();
    cell.share(1, 2);
    cell.lock(2, 2);
    cell.share(3, 2);
    let effects = unlock(&mut cell, 2);
    assert_eq!((effects.reply, told(&effects)), (Some(Reply::OK), vec![(3, 2, LOCKED)]));
    assert_eq!(cell.queue("/l"), (vec![1, 3], vec![]));
}

#[test]
fn unlock_without_a_claim_is_lock_inval() {
    let mut cell = cell();
    assert_eq!(cell.code(1, Write::Unlock { fh: 2 }), Code::LockInval);
    cell.lock(1, 2);
    assert_eq!(cell.code(2, Write::Unlock { fh: 2 }), Code::LockInval, "it is another's lock");
    assert_eq!(cell.queue("/l"), (vec![1], vec![]));
}

#[test]
fn a_handle_that_holds_or_waits_gets_a_conflict() {
    let mut cell = cell();
    cell.share(1, 2);
    cell.lock(2, 2);
    for sid in [1, 2] {
        assert_eq!(cell.share(sid, 2), Code::LockConflict);
        assert_eq!(cell.lock(sid, 2), Code::LockConflict);
        assert_eq!(cell.try_lock(sid, 2), Code::LockConflict);
    }
    assert_eq!(cell.queue("/l"), (vec![1], vec![2]));
}

#[test]
fn locking_needs_a_handle_for_locking() {
    let mut cell = cell();
    let fh = cell.open(1, "/l", READ | WRITE, NONE);
    assert_eq!(cell.lock(1, fh), Code::ModeInval);
    assert_eq!(cell.code(1, Write::Unlock { fh }), Code::ModeInval);
    assert_eq!(cell.lock(1, 99), Code::FhInval);
}

#[test]
fn directories_can_be_locked() {
    let mut cell = cell();
    let fh = cell.open(1, "/", DIRECTORY | LOCK, NONE);
    assert_eq!(cell.lock(1, fh), Code::Ok);
}

#[test]
fn locks_are_advisory() {
    let mut cell = cell();
    cell.lock(1, 2);
    let fh = cell.open(2, "/l", WRITE, NONE);
    assert_eq!(cell.code(2, put(fh, b"x")), Code::Ok);
}

// 9
#[test]
fn closing_a_handle_drops_that_handles_lock_only() {
    let mut cell = cell();
    let other = cell.open(1, "/m", CREATE | LOCK, NONE);
    let twin = cell.open(1, "/l", LOCK, NONE);
    cell.lock(1, 2);
    cell.lock(1, other);
    cell.write(1, Write::Close { fh: twin });
    assert_eq!((cell.queue("/l").0, cell.queue("/m").0), (vec![1], vec![1]));
    cell.write(1, Write::Close { fh: 2 });
    assert_eq!((cell.queue("/l").0, cell.queue("/m").0), (vec![], vec![1]));
}

// 8
#[test]
fn deletion_leaves_no_lock_behind() {
    let mut cell = cell();
    cell.lock(1, 2);
    cell.lock(2, 2);
    cell.code(3, del("/l"));
    assert_eq!(cell.db.totals().claims, 0);
    let fh = cell.open(3, "/l", CREATE | LOCK, NONE);
    assert_eq!(cell.try_lock(3, fh), Code::Ok);
}

#[test]
fn deletion_ends_the_wait_of_those_in_the_queue_and_of_nobody_else() {
    let mut cell = cell();
    cell.lock(1, 2);
    cell.lock(2, 2);
    let effects = cell.write(3, del("/l"));
    assert_eq!(told(&effects), [(2, 2, DELETED)], "the holder did not ask for it, and waits for nothing");
}

#[test]
fn an_ending_session_does_not_get_the_lock_that_it_releases() {
    let mut cell = cell();
    let twin = cell.open(1, "/l", LOCK, NONE);
    cell.lock(1, 2);
    cell.lock(1, twin);
    cell.lock(2, 2);
    let effects = cell.expire(1);
    assert_eq!((told(&effects), effects.ended), (vec![(2, 2, LOCKED)], Some(1)));
}
