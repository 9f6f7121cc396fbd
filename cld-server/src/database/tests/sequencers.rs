//! Sequencers: when they stand, and what they keep from happening.

use super::*;

/// A cell where sessions 1, 2 and 3 have handle 2 on /l, for locking, and handle 3 on /data, for writing.
fn cell() -> Cell {
    let mut cell = Cell::new();
    for sid in 1..=3 {
        assert_eq!(cell.open(sid, "/l", CREATE | LOCK, NONE), 2);
        assert_eq!(cell.open(sid, "/data", CREATE | READ | WRITE, NONE), 3);
    }
    cell
}

fn unlock(cell: &mut Cell, sid: u64) -> Effects {
    cell.write(sid, Write::Unlock { fh: 2 })
}

fn generation(cell: &Cell) -> u64 {
    cell.db.lock_generation(cell.db.stat(b"/l").unwrap().inode)
}

fn fenced_put(data: &[u8], fence: &Sequencer) -> Write {
    Write::Put { fh: 3, data: data.into(), fence: Some(fence.clone()) }
}

fn fenced_del(path: &str, fence: &Sequencer) -> Write {
    Write::Del { path: path.as_bytes().into(), fence: Some(fence.clone()) }
}

// The generation of a lock.

#[test]
fn every_grant_to_a_lock_without_holder_raises_its_generation() {
    let mut cell = cell();
    assert_eq!(generation(&cell), 0);
    for n in 1..=3 {
        cell.lock(n, 2);
        assert_eq!(generation(&cell), n);
        unlock(&mut cell, n);
        assert_eq!(generation(&cell), n, "to be free is no grant");
    }
    cell.try_lock(1, 2);
    assert_eq!(generation(&cell), 4);
    assert_eq!(cell.lock(1, 2), Code::LockConflict);
    assert_eq!(cell.try_lock(2, 2), Code::LockConflict);
    assert_eq!(generation(&cell), 4, "a refusal is no grant");
}

#[test]
fn a_shared_lock_that_others_join_keeps_its_generation() {
    let mut cell = cell();
    cell.share(1, 2);
    cell.share(2, 2);
    let first = cell.db.sequencer(1, 2).unwrap();
    assert_eq!(cell.db.sequencer(2, 2), Ok(first.clone()));
    // One after the other leaves and joins, and there always is a holder.
    unlock(&mut cell, 1);
    cell.share(3, 2);
    unlock(&mut cell, 2);
    cell.share(1, 2);
    unlock(&mut cell, 3);
    assert_eq!((generation(&cell), cell.db.check_sequencer(&first)), (1, Ok(())));
    assert_eq!(cell.db.sequencer(1, 2), Ok(first));
}

#[test]
fn every_hand_over_to_a_waiter_raises_the_generation() {
    for end in ["unlock", "close", "end", "expire"] {
        let mut cell = cell();
        cell.lock(1, 2);
        let old = cell.db.sequencer(1, 2).unwrap();
        cell.lock(2, 2);
        let effects = match end {
            "unlock" => unlock(&mut cell, 1),
            "close" => cell.write(1, Write::Close { fh: 2 }),
            "end" => cell.write(1, Write::EndSession),
            _ => cell.expire(1),
        };
        assert_eq!((told(&effects), generation(&cell)), (vec![(2, 2, LOCKED)], 2), "{end}");
        assert_eq!(cell.db.check_sequencer(&old), Err(Code::Stale), "{end}");
        assert_eq!(cell.db.check_sequencer(&cell.db.sequencer(2, 2).unwrap()), Ok(()), "{end}");
    }
}

#[test]
fn a_run_of_shared_waiters_gets_one_generation() {
    let mut cell = cell();
    cell.lock(1, 2);
    cell.share(2, 2);
    cell.share(3, 2);
    unlock(&mut cell, 1);
    let sequencer = cell.db.sequencer(2, 2).unwrap();
    assert_eq!((sequencer.generation, sequencer.shared), (2, true));
    assert_eq!(cell.db.sequencer(3, 2), Ok(sequencer));
}

// How a holder learns its sequencer.

#[test]
fn the_reply_to_a_lock_granted_at_once_tells_its_sequencer() {
    for (flags, wait) in [(LockFlags::NONE, true), (LockFlags::SHARED, true), (LockFlags::NONE, false)] {
        let mut cell = cell();
        let reply = cell.write(1, Write::Lock { fh: 2, flags, wait }).reply.unwrap();
        let inode = cell.db.stat(b"/l").unwrap().inode;
        let shared = flags == LockFlags::SHARED;
        let expected = Sequencer { inode, generation: 1, shared, path: b"/l".as_slice().into() };
        assert_eq!(cell.db.sequencer_of(reply), Some(expected.clone()));
        assert_eq!(cell.db.sequencer(1, 2), Ok(expected.clone()));
        assert_eq!(cell.db.check_sequencer(&expected), Ok(()));
    }
}

// 11
#[test]
fn a_repeated_lock_gives_the_sequencer_of_its_grant_though_it_is_stale() {
    let mut cell = cell();
    let lock = Write::Lock { fh: 2, flags: LockFlags::NONE, wait: true };
    let first = cell.request(1, 777, 200, Settled::default(), lock.clone()).reply;
    cell.request(1, 778, 201, Settled::default(), Write::Unlock { fh: 2 });
    cell.lock(2, 2);
    let again = cell.request(1, 777, 200, Settled::default(), lock).reply;
    assert_eq!((again, generation(&cell)), (first, 2));
    let sequencer = cell.db.sequencer_of(again.unwrap()).unwrap();
    assert_eq!((sequencer.generation, cell.db.check_sequencer(&sequencer)), (1, Err(Code::Stale)));
    cell.code(3, del("/l"));
    let sequencer = cell.db.sequencer_of(again.unwrap()).unwrap();
    assert_eq!((&*sequencer.path, cell.db.check_sequencer(&sequencer)), (&b""[..], Err(Code::Stale)));
}

#[test]
fn only_a_reply_that_grants_a_lock_tells_a_sequencer() {
    let mut cell = cell();
    cell.lock(1, 2);
    let pending = cell.write(2, Write::Lock { fh: 2, flags: LockFlags::NONE, wait: true }).reply.unwrap();
    for reply in [pending, Reply::OK, Reply::Opened(2)] {
        assert_eq!(cell.db.sequencer_of(reply), None);
    }
}

#[test]
fn only_a_handle_that_holds_the_lock_has_a_sequencer() {
    let mut cell = cell();
    let twin = cell.open(1, "/l", LOCK, NONE);
    assert_eq!(cell.db.sequencer(1, 2), Err(Code::LockInval), "nobody holds it");
    cell.lock(1, 2);
    cell.lock(2, 2);
    assert_eq!(cell.db.sequencer(2, 2), Err(Code::LockInval), "it waits");
    assert_eq!(cell.db.sequencer(1, twin), Err(Code::LockInval), "another handle holds it");
    assert_eq!(cell.db.sequencer(1, 3), Err(Code::ModeInval));
    assert_eq!(cell.db.sequencer(1, 99), Err(Code::FhInval));
    assert_eq!(cell.db.sequencer(77, 2), Err(Code::SessInval));
    cell.code(3, del("/l"));
    assert_eq!(cell.db.sequencer(1, 2), Err(Code::FhInval));
}

// When a sequencer stands.

#[test]
fn a_sequencer_differing_in_anything_is_stale() {
    let mut cell = cell();
    cell.lock(1, 2);
    let other = cell.open(2, "/m", CREATE | LOCK, NONE);
    cell.lock(2, other);
    let good = cell.db.sequencer(1, 2).unwrap();
    let [l, m] = [b"/l", b"/m"].map(|path| cell.db.stat(path).unwrap().inode);
    assert_eq!((cell.db.check_sequencer(&good), good.inode), (Ok(()), l));
    let path = |path: &str| path.as_bytes().into();
    for bad in [
        Sequencer { inode: m, ..good.clone() },
        Sequencer { path: path("/m"), ..good.clone() },
        Sequencer { path: path("/no"), ..good.clone() },
        Sequencer { path: path(""), ..good.clone() },
        Sequencer { path: path("l"), ..good.clone() },
        Sequencer { generation: 0, ..good.clone() },
        Sequencer { generation: 2, ..good.clone() },
        Sequencer { shared: true, ..good.clone() },
    ] {
        assert_eq!(cell.db.check_sequencer(&bad), Err(Code::Stale), "{bad:?}");
    }
}

#[test]
fn a_new_file_of_the_same_name_makes_no_old_sequencer_stand() {
    let mut cell = cell();
    cell.lock(1, 2);
    let old = cell.db.sequencer(1, 2).unwrap();
    cell.code(3, del("/l"));
    assert_eq!(cell.db.check_sequencer(&old), Err(Code::Stale));
    let fh = cell.open(1, "/l", CREATE | LOCK, NONE);
    cell.lock(1, fh);
    let new = cell.db.sequencer(1, fh).unwrap();
    assert_eq!((new.generation, new.shared, &new.path), (old.generation, old.shared, &old.path));
    assert_eq!((cell.db.check_sequencer(&old), cell.db.check_sequencer(&new)), (Err(Code::Stale), Ok(())));
}

#[test]
fn a_sequencer_is_stale_once_its_lock_is_free_and_stays_so() {
    let mut cell = cell();
    cell.lock(1, 2);
    let old = cell.db.sequencer(1, 2).unwrap();
    unlock(&mut cell, 1);
    assert_eq!(cell.db.check_sequencer(&old), Err(Code::Stale));
    cell.lock(1, 2);
    assert_eq!(cell.db.check_sequencer(&old), Err(Code::Stale), "the same holder, but not without a break");
}

#[test]
fn a_sequencer_stands_or_falls_alike_after_a_snapshot() {
    let mut cell = cell();
    cell.lock(1, 2);
    let old = cell.db.sequencer(1, 2).unwrap();
    cell.lock(2, 2);
    unlock(&mut cell, 1);
    let new = cell.db.sequencer(2, 2).unwrap();
    let copy = Snapshot::decode(snapshot(&cell.db).as_slice(), SUPPORTED).unwrap();
    assert_eq!((copy.check_sequencer(&old), copy.check_sequencer(&new)), (Err(Code::Stale), Ok(())));
}

// What a sequencer keeps from happening.

#[test]
fn a_paused_holders_write_is_refused_once_the_lock_is_anothers() {
    for end in ["unlock", "close", "expire"] {
        let mut cell = cell();
        cell.lock(1, 2);
        let fence = cell.db.sequencer(1, 2).unwrap();
        assert_eq!(cell.code(1, fenced_put(b"mine", &fence)), Code::Ok);
        cell.lock(2, 2);
        assert_eq!(cell.code(1, fenced_put(b"still mine", &fence)), Code::Ok, "somebody waits, that is all");
        match end {
            "unlock" => drop(unlock(&mut cell, 1)),
            "close" => drop(cell.write(1, Write::Close { fh: 2 })),
            _ => {
                cell.expire(1);
                cell.session(1, "alice");
                cell.open(1, "/l", LOCK, NONE);
                cell.open(1, "/data", WRITE, NONE);
            }
        }
        let next = cell.db.sequencer(2, 2).unwrap();
        assert_eq!(cell.code(2, fenced_put(b"other", &next)), Code::Ok, "{end}");
        assert_eq!(cell.code(1, fenced_put(b"late", &fence)), Code::Stale, "{end}");
        assert_eq!(cell.code(1, fenced_del("/data", &fence)), Code::Stale, "{end}");
        assert_eq!(cell.get(2, 3), Ok(b"other".to_vec()), "{end}");
        unlock(&mut cell, 2);
        assert_eq!(
            cell.code(2, fenced_put(b"later", &next)),
            Code::Stale,
            "{end}: released, not granted anew"
        );
    }
}

// 6
#[test]
fn a_fenced_request_that_is_refused_changes_nothing_and_tells_nobody() {
    let mut cell = cell();
    cell.open(2, "/data", READ, UPDATED | DELETED);
    cell.lock(1, 2);
    let fence = cell.db.sequencer(1, 2).unwrap();
    unlock(&mut cell, 1);
    let before = format!("{:?}", cell.db.namespace);
    for refused in [fenced_put(b"x", &fence), fenced_del("/data", &fence)] {
        let effects = cell.write(1, refused);
        let expected = Effects { reply: Some(Reply::Code(Code::Stale)), ..Effects::default() };
        assert_eq!((effects, format!("{:?}", cell.db.namespace)), (expected, before.clone()));
    }
}

#[test]
fn a_fenced_deletion_is_done_while_its_lock_is_held() {
    let mut cell = cell();
    cell.lock(1, 2);
    let fence = cell.db.sequencer(1, 2).unwrap();
    assert_eq!(cell.code(2, fenced_del("/data", &fence)), Code::Ok, "whoever shows the sequencer");
    assert_eq!(cell.code(1, fenced_del("/l", &fence)), Code::Ok, "the locked file itself");
    assert_eq!(cell.db.check_sequencer(&fence), Err(Code::Stale));
}

// 11
#[test]
fn a_fenced_write_that_was_done_is_answered_so_when_it_comes_again() {
    let mut cell = cell();
    cell.lock(1, 2);
    let fence = cell.db.sequencer(1, 2).unwrap();
    let write = || fenced_put(b"x", &fence);
    assert_eq!(cell.request(1, 777, 200, Settled::default(), write()).reply, Some(Reply::OK));
    cell.expire(2);
    cell.request(1, 778, 201, Settled::default(), Write::Unlock { fh: 2 });
    let again = cell.request(1, 777, 200, Settled::default(), write());
    assert_eq!((again.reply, cell.version("/data")), (Some(Reply::OK), 2));
}
