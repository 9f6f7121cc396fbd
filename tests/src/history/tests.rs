use super::*;
use crate::raw::codes::code;
use crate::rng::Rng;

const PATH: &str = "/f";
const CREATE: Call = Call::Open { create: true, exclusive: false };

/// A history in which a unit of time passes with each call and each answer.
#[derive(Default)]
struct Script(History);

impl Script {
    /// With a file that clients 1 to N have open: the handles.
    fn with_file<const N: usize>() -> (Self, [OpId; N]) {
        let mut script = Self::default();
        let handles = std::array::from_fn(|place| script.does(place as u64 + 1, CREATE, Outcome::Done));
        (script, handles)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.moments as u64)
    }

    fn call(&mut self, client: u64, call: Call) -> OpId {
        self.0.call(self.now(), client, PATH, call)
    }

    fn answer(&mut self, operation: OpId, outcome: Outcome) {
        self.0.answer(self.now(), operation, outcome);
    }

    /// A call that is answered before anything else happens.
    fn does(&mut self, client: u64, call: Call, outcome: Outcome) -> OpId {
        let operation = self.call(client, call);
        self.answer(operation, outcome);
        operation
    }

    fn trusts(&mut self, lock: OpId, millis: u64) {
        self.0.trusts(self.now(), lock, Duration::from_millis(millis));
    }

    /// What does not linearize, as text; none if all does.
    fn bad(&self) -> Option<String> {
        match self.0.check() {
            Ok(()) => None,
            Err(Violation::NotLinearizable { path, history }) => {
                assert_eq!(path, PATH);
                Some(history)
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn put(handle: OpId, data: &str) -> Call {
    Call::Put(handle, data.as_bytes().into())
}

fn contents(data: &str, version: u64) -> Outcome {
    Outcome::Contents { inode: 51, version, data: data.as_bytes().into() }
}

fn locked(generation: u64) -> Outcome {
    Outcome::Locked(Some(Stamp { inode: 51, generation }))
}

#[test]
fn a_read_after_a_write_sees_it_and_one_at_the_same_time_may() {
    for (seen, is_right) in [(contents("", 1), true), (contents("a", 2), true), (contents("b", 3), false)] {
        let (mut script, [one, two]) = Script::with_file();
        let write = script.call(1, put(one, "a"));
        let read = script.call(2, Call::Get(two));
        script.answer(read, seen);
        script.answer(write, Outcome::Done);
        script.does(2, Call::Get(two), contents("a", 2));
        assert_eq!(script.bad().is_none(), is_right, "{:?}", script.bad());
    }
}

#[test]
fn a_stale_read_is_found() {
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, put(one, "old"), Outcome::Done);
    script.does(1, put(one, "new"), Outcome::Done);
    script.does(2, Call::Get(two), contents("old", 2));
    script.does(2, Call::Get(two), contents("new", 3));
    let bad = script.bad().unwrap();
    assert!(bad.contains("\"old\", version 2"), "{bad}");
    // What came later is not needed to see it.
    assert!(!bad.contains("\"new\", version 3"), "{bad}");
}

#[test]
fn reads_that_go_back_while_a_write_is_open_are_found() {
    let (mut script, [one, two]) = Script::with_file();
    let write = script.call(1, put(one, "new"));
    script.does(2, Call::Get(two), contents("new", 2));
    assert_eq!(script.bad(), None);
    script.does(2, Call::Get(two), contents("", 1));
    script.answer(write, Outcome::Done);
    assert!(script.bad().is_some());
}

#[test]
fn a_lost_write_is_found() {
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, put(one, "kept"), Outcome::Done);
    script.does(2, put(two, "lost"), Outcome::Done);
    script.does(1, Call::Get(one), contents("kept", 2));
    assert!(script.bad().is_some());
}

#[test]
fn a_write_that_is_done_twice_is_found_by_the_version() {
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, put(one, "once"), Outcome::Done);
    script.does(2, Call::Meta(two), Outcome::Metadata { inode: 51, version: 3 });
    assert!(script.bad().is_some());
    // Also if somebody saw it in between.
    let (mut script, [one, two]) = Script::with_file();
    let write = script.call(1, put(one, "once"));
    script.does(2, Call::Get(two), contents("once", 2));
    script.answer(write, Outcome::Done);
    script.does(2, Call::Get(two), contents("once", 3));
    assert!(script.bad().is_some());
}

#[test]
fn what_has_no_answer_may_have_happened_at_any_time_once_or_not_at_all() {
    let never = [("", 1), ("", 1), ("", 1)];
    let at_once = [("open", 2), ("open", 2), ("open", 2)];
    let late = [("", 1), ("", 1), ("open", 2)];
    let twice = [("open", 2), ("open", 3), ("open", 3)];
    let undone = [("", 1), ("open", 2), ("", 1)];
    for (seen, is_right) in [(never, true), (at_once, true), (late, true), (twice, false), (undone, false)] {
        let (mut script, [one, two]) = Script::with_file();
        script.call(1, put(one, "open"));
        for (data, version) in seen {
            script.does(2, Call::Get(two), contents(data, version));
        }
        assert_eq!(script.bad().is_none(), is_right, "{seen:?}");
    }
    // Before it was asked for it has not happened.
    let (mut script, [one, two]) = Script::with_file();
    script.does(2, Call::Get(two), contents("open", 2));
    script.call(1, put(one, "open"));
    assert!(script.bad().is_some());
}

#[test]
fn a_file_that_is_deleted_is_gone_and_another_one_has_a_higher_number() {
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, put(one, "a"), Outcome::Done);
    script.does(2, Call::Get(two), contents("a", 2));
    script.does(1, Call::Delete, Outcome::Done);
    script.does(1, Call::Delete, Outcome::Refused(code::NAME_INVAL));
    script.does(2, Call::Get(two), Outcome::Refused(code::FH_INVAL));
    let open = Call::Open { create: false, exclusive: false };
    script.does(2, open, Outcome::Refused(code::NAME_INVAL));
    let exclusive = Call::Open { create: true, exclusive: true };
    let again = script.does(2, exclusive.clone(), Outcome::Done);
    script.does(1, exclusive, Outcome::Refused(code::INODE_EXISTS));
    script.does(1, put(one, "b"), Outcome::Refused(code::FH_INVAL));
    assert_eq!(script.bad(), None);
    let right = Outcome::Contents { inode: 52, version: 1, data: Arc::default() };
    for (seen, is_right) in [(right, true), (contents("", 1), false)] {
        let mut script = Script(script.0.clone());
        script.does(2, Call::Get(again), seen);
        assert_eq!(script.bad().is_none(), is_right);
    }
}

#[test]
fn a_lock_goes_to_those_who_wait_in_their_order_and_its_generation_counts_the_hand_overs() {
    for (second, third, is_right) in [(2, 3, true), (3, 2, false), (3, 4, false), (2, 2, false)] {
        let (mut script, [one, two, three]) = Script::with_file();
        let exclusive = Mode::Exclusive;
        script.does(1, Call::Lock(one, exclusive), locked(1));
        let waits = script.call(2, Call::Lock(two, exclusive));
        // Refused only once client 2 waits or holds, so that it came first.
        script.does(3, Call::TryLock(three, Mode::Shared), Outcome::Refused(code::LOCK_CONFLICT));
        script.does(1, Call::Unlock(one), Outcome::Done);
        script.does(3, Call::TryLock(three, Mode::Shared), Outcome::Refused(code::LOCK_CONFLICT));
        let last = script.call(3, Call::Lock(three, exclusive));
        script.answer(waits, locked(second));
        script.does(2, Call::Unlock(two), Outcome::Done);
        script.answer(last, locked(third));
        let found = script.0.check();
        assert_eq!(found.is_ok(), is_right, "{second}, {third}: {found:?}");
    }
}

#[test]
fn who_waits_for_the_lock_of_a_file_until_that_is_deleted_has_waited() {
    let (mut script, [one, two, three]) = Script::with_file();
    script.does(1, Call::TryLock(one, Mode::Shared), locked(1));
    let waits = script.call(2, Call::Lock(two, Mode::Exclusive));
    // Nobody overtakes client 2.
    script.does(3, Call::TryLock(three, Mode::Shared), Outcome::Refused(code::LOCK_CONFLICT));
    script.does(3, Call::Delete, Outcome::Done);
    script.answer(waits, Outcome::Refused(code::INODE_INVAL));
    assert_eq!(script.bad(), None);
    // A file that was not deleted is no reason.
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, Call::TryLock(one, Mode::Exclusive), locked(1));
    script.does(2, Call::Lock(two, Mode::Exclusive), Outcome::Refused(code::INODE_INVAL));
    assert!(script.bad().is_some());
}

#[test]
fn two_grants_at_the_same_time_are_found_unless_both_are_shared() {
    for (modes, generations, is_right) in [
        ([Mode::Shared, Mode::Shared], [1, 1], true),
        ([Mode::Shared, Mode::Exclusive], [1, 2], false),
        ([Mode::Exclusive, Mode::Exclusive], [1, 2], false),
    ] {
        let (mut script, [one, two]) = Script::with_file();
        script.does(1, Call::TryLock(one, modes[0]), locked(generations[0]));
        script.does(2, Call::TryLock(two, modes[1]), locked(generations[1]));
        assert_eq!(script.bad().is_none(), is_right, "{modes:?}");
    }
}

#[test]
fn a_sequencer_stands_as_long_as_its_lock_is_held() {
    let (mut script, [one, two]) = Script::with_file();
    let check = |generation| Call::Check(Stamp { inode: 51, generation }, Mode::Exclusive);
    script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
    script.does(2, check(1), Outcome::Done);
    script.does(1, Call::Unlock(one), Outcome::Done);
    script.does(2, check(1), Outcome::Refused(code::STALE));
    script.does(2, Call::Lock(two, Mode::Exclusive), locked(2));
    script.does(2, check(2), Outcome::Done);
    assert_eq!(script.bad(), None);
    script.does(2, check(1), Outcome::Done);
    assert!(script.bad().is_some());
}

#[test]
fn the_locks_of_a_session_that_is_over_go_to_others_but_not_before_its_last_answer() {
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
    script.does(2, Call::Lock(two, Mode::Exclusive), locked(2));
    assert!(script.bad().is_some());
    // It is noticed late.
    script.0.session_over(script.now(), 1);
    assert_eq!(script.bad(), None);

    let (mut script, [one, two]) = Script::with_file();
    script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
    script.does(2, Call::Lock(two, Mode::Exclusive), locked(2));
    script.does(1, Call::Meta(one), Outcome::Metadata { inode: 51, version: 1 });
    script.0.session_over(script.now(), 1);
    assert!(script.bad().is_some());
}

#[test]
fn two_clients_that_trust_in_one_lock_are_found() {
    // The first lease counts for 100; the second lock is granted before that, or afterwards.
    for (safe_for, is_right) in [(100, false), (1, true)] {
        let (mut script, [one, two]) = Script::with_file();
        let first = script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
        script.trusts(first, safe_for);
        script.0.session_over(script.now(), 1);
        let second = script.does(2, Call::Lock(two, Mode::Exclusive), locked(2));
        script.trusts(second, 10);
        match script.0.check() {
            Ok(()) => assert!(is_right),
            Err(Violation::TwoHolders { path, .. }) => assert!(path == PATH && !is_right),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_lock_that_was_given_back_is_trusted_no_more() {
    let (mut script, [one, two]) = Script::with_file();
    let first = script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
    script.trusts(first, 100);
    script.does(1, Call::Unlock(one), Outcome::Done);
    let second = script.does(2, Call::Lock(two, Mode::Exclusive), locked(2));
    script.trusts(second, 100);
    assert_eq!(script.0.check(), Ok(()));
}

#[test]
fn who_trusts_again_in_a_lock_that_another_had_meanwhile_is_found() {
    let (mut script, [one, two]) = Script::with_file();
    let first = script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
    script.trusts(first, 1);
    let second = script.does(2, Call::Lock(two, Mode::Exclusive), locked(2));
    script.trusts(second, 10);
    script.does(2, Call::Unlock(two), Outcome::Done);
    script.trusts(first, 0);
    script.trusts(first, 1);
    assert!(matches!(script.0.check(), Err(Violation::TwoHolders { .. })));
}

#[test]
fn a_generation_that_does_not_rise_is_found() {
    let (mut script, [one, two]) = Script::with_file();
    script.does(1, Call::Lock(one, Mode::Exclusive), locked(1));
    script.does(1, Call::Unlock(one), Outcome::Done);
    script.does(2, Call::Lock(two, Mode::Exclusive), locked(1));
    assert!(matches!(script.0.check(), Err(Violation::Generations { .. })));
}

/// What a right file answers to `clients` that ask at the same time, each one thing after the other: a history of
/// `length` operations. One in `lost` has no answer; half of these have happened.
fn random(rng: &mut Rng, clients: usize, length: usize, lost: f64) -> Script {
    let mut script = Script::default();
    let mut state = file::State::default();
    let handles: Vec<OpId> =
        (0..clients).map(|client| script.does(client as u64, CREATE, Outcome::Done)).collect();
    for &id in &handles {
        let step = file::Step { id, client: 0, call: CREATE, grant: false, outcome: None };
        state = state.after(&step).unwrap();
    }
    // Of each client: what it asks, and the answer once it has happened.
    let mut asked: Vec<Option<(OpId, Option<Outcome>)>> = vec![None; clients];
    let mut version = 1;
    let mut data = Arc::default();
    while script.0.operations.len() < length {
        let client = rng.below(clients as u64) as usize;
        let Some(place) = asked.get_mut(client) else { continue };
        match place.take() {
            None => {
                let handle = handles[client];
                let unique = format!("{}", script.0.operations.len());
                let call = if rng.chance(0.5) { Call::Get(handle) } else { put(handle, &unique) };
                *place = Some((script.call(client as u64, call), None));
            }
            Some((id, None)) => {
                let call = script.0.operations[id.0].call.clone();
                let is_lost = rng.chance(lost);
                if is_lost && rng.chance(0.5) {
                    continue;
                }
                let outcome = if let Call::Put(_, new) = call {
                    (version, data) = (version + 1, new);
                    Outcome::Done
                } else {
                    Outcome::Contents { inode: 51, version, data: data.clone() }
                };
                *place = (!is_lost).then_some((id, Some(outcome)));
            }
            Some((id, Some(outcome))) => script.answer(id, outcome),
        }
    }
    script
}

#[test]
fn what_a_right_file_answers_linearizes_and_one_stale_answer_among_it_does_not() {
    let mut rng = Rng::new(1);
    for (clients, length, lost) in [(2, 300, 0.0), (4, 300, 0.0), (4, 300, 0.02), (8, 100, 0.05)] {
        let script = random(&mut rng, clients, length, lost);
        assert_eq!(script.bad(), None, "{clients} clients, {lost} lost");
        let mut wrong = script;
        let reads: Vec<usize> = (0..length)
            .filter(|&place| {
                matches!(wrong.0.operations[place].answered, Some((_, Outcome::Contents { .. })))
            })
            .collect();
        let [first, place] = [reads[0], reads[reads.len() / 2]];
        let stale = wrong.0.operations[first].answered.clone();
        let wrong_one = wrong.0.operations[place].answered.as_mut();
        wrong_one.zip(stale).map(|(answer, stale)| answer.1 = stale.1).unwrap();
        let bad = wrong.bad().unwrap();
        assert!(bad.contains(&format!("#{place} ")), "{bad}");
    }
}
