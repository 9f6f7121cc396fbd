//! Who is let in, and what is said to who is not.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::session::{MAX_HANDSHAKE, PREAMBLE};
use super::*;
use crate::versions::{Offer, Versions};

#[test]
fn both_ends_learn_who_the_other_is() {
    let (one, two) = linked();
    assert_eq!(one.peer(), Some((hello(2), 1)));
    assert_eq!(two.peer(), Some((hello(1), 1)));
}

#[test]
fn each_end_is_sure_only_when_the_first_record_has_come() {
    let (mut one, mut two) = (dial(&secret(), hello(1)), accept(2));
    receive(&mut two, &sent(&mut one), usize::MAX).unwrap();
    receive(&mut one, &sent(&mut two), usize::MAX).unwrap();
    let first = sent(&mut one);
    for session in [&one, &two] {
        assert!(session.peer().is_none() && !session.wants_frames());
    }
    receive(&mut two, &first, usize::MAX).unwrap();
    assert!(two.peer().is_some() && two.wants_frames() && one.peer().is_none());
    two.send(&[]);
    receive(&mut one, &sent(&mut two), usize::MAX).unwrap();
    assert!(one.peer().is_some() && one.wants_frames());
}

#[test]
fn a_connection_that_the_other_end_does_not_take_is_told_from_a_refusal() {
    let (mut one, mut two) = (dial(&secret(), hello(1)), accept(2));
    receive(&mut two, &sent(&mut one), usize::MAX).unwrap();
    receive(&mut one, &sent(&mut two), usize::MAX).unwrap();
    assert_eq!(one.handle_end(), SessionError::NotTaken);
}

#[test]
fn the_handshake_may_come_in_any_pieces() {
    for step in 1..200 {
        link(dial(&secret(), hello(1)), accept(2), step);
    }
}

/// What each end says of a handshake between these two: the accepting end first.
fn refusals(mut one: Session, mut two: Session) -> [Result<Vec<Frame>, SessionError>; 2] {
    let accepting = receive(&mut two, &sent(&mut one), usize::MAX);
    let answer = sent(&mut two);
    let dialling =
        if answer.is_empty() { Err(one.handle_end()) } else { receive(&mut one, &answer, usize::MAX) };
    [accepting, dialling]
}

#[test]
fn another_secret_is_refused_at_the_first_message_and_gets_no_answer() {
    let [accepting, dialling] = refusals(dial(&Secret::new([8; 32]), hello(1)), accept(2));
    assert_eq!(accepting, Err(SessionError::Secret));
    assert_eq!(dialling, Err(SessionError::ClosedInHandshake));
    assert!(dialling.unwrap_err().to_string().contains("another secret"));
}

#[test]
fn who_answers_without_the_secret_is_refused() {
    let mut one = dial(&secret(), hello(1));
    let mut other = dial(&Secret::new([8; 32]), hello(2));
    assert_eq!(receive(&mut one, &sent(&mut other), usize::MAX), Err(SessionError::Secret));
}

#[test]
fn another_cell_is_refused_by_both_ends() {
    let theirs = Hello { cell: 5, ..hello(1) };
    let [accepting, dialling] = refusals(dial(&secret(), theirs), accept(2));
    assert_eq!(accepting, Err(SessionError::Cell { theirs: 5, ours: CELL }));
    assert_eq!(dialling, Err(SessionError::Cell { theirs: CELL, ours: 5 }));
}

#[test]
fn versions_must_overlap_and_the_highest_of_both_is_spoken() {
    for (versions, spoken) in [((1, 1), Some(1)), ((0, 7), Some(1)), ((0, 0), None), ((2, 3), None)] {
        let theirs = Hello { versions, ..hello(1) };
        if let Some(version) = spoken {
            let (one, two) = link(dial(&secret(), theirs), accept(2), usize::MAX);
            assert_eq!((one.peer(), two.peer()), (Some((hello(2), version)), Some((theirs, version))));
        } else {
            let [accepting, dialling] = refusals(dial(&secret(), theirs), accept(2));
            assert_eq!(accepting, Err(SessionError::Version { theirs: versions, ours: (1, 1) }));
            assert_eq!(dialling, Err(SessionError::Version { theirs: (1, 1), ours: versions }));
        }
    }
}

#[test]
fn both_must_be_able_to_apply_the_cells_version() {
    let offer = |lowest, highest, has| Offer { can: Versions { lowest, highest }, has };
    // The second lags behind the first, and can apply what it lacks; the third waits to be added.
    for (one, two) in
        [(offer(2, 3, 2), offer(1, 2, 1)), (offer(1, 2, 2), offer(1, 2, 2)), (offer(1, 2, 2), offer(2, 3, 0))]
    {
        let (one, two) = (Hello { offer: one, ..hello(1) }, Hello { offer: two, ..hello(2) });
        let accepting =
            Session::accept(&secret(), two, Expected::Only(BTreeSet::from([1])), [2; 32]).unwrap();
        let (dialled, accepted) = link(dial(&secret(), one), accepting, usize::MAX);
        assert_eq!((dialled.peer(), accepted.peer()), (Some((two, 1)), Some((one, 1))));
    }
    for (one, two, wrong, cell) in [
        (offer(1, 2, 2), offer(1, 1, 1), 2, 2),
        (offer(1, 1, 0), offer(1, 2, 2), 1, 2),
        (offer(2, 3, 0), offer(1, 2, 1), 1, 1),
    ] {
        let can = if wrong == 1 { one.can } else { two.can };
        let (one, two) = (Hello { offer: one, ..hello(1) }, Hello { offer: two, ..hello(2) });
        let accepting =
            Session::accept(&secret(), two, Expected::Only(BTreeSet::from([1])), [2; 32]).unwrap();
        let refused = Err(SessionError::CellVersion { node: wrong, can, cell });
        assert_eq!(refusals(dial(&secret(), one), accepting), [refused.clone(), refused]);
    }
}

#[test]
fn a_server_refuses_itself() {
    let one = Session::dial(&secret(), hello(2), 3, [1; 32]).unwrap();
    let [accepting, dialling] = refusals(one, accept(2));
    assert_eq!(accepting, Err(SessionError::Itself { node: 2 }));
    assert_eq!(dialling, Err(SessionError::Itself { node: 2 }));
}

#[test]
fn a_server_that_is_not_expected_is_refused() {
    let [accepting, dialling] = refusals(dial(&secret(), hello(9)), accept(2));
    let expected = SessionError::Unexpected {
        node: 9,
        address: address(9),
        expected: Expected::Only(BTreeSet::from([1, 3])),
    };
    assert_eq!(accepting, Err(expected));
    assert_eq!(dialling, Err(SessionError::NotMember { node: 9, by: 2 }));
    let one = Session::dial(&secret(), hello(1), 3, [1; 32]).unwrap();
    let [_, dialling] = refusals(one, accept(2));
    assert_eq!(
        dialling,
        Err(SessionError::Unexpected {
            node: 2,
            address: address(2),
            expected: Expected::Only(BTreeSet::from([3]))
        })
    );
}

#[test]
fn a_server_that_was_removed_is_told_so() {
    let removed = Expected::AllBut(BTreeSet::from([1]));
    let accepting = |expected| Session::accept(&secret(), hello(2), expected, [2; 32]).unwrap();
    let [_, dialling] = refusals(dial(&secret(), hello(1)), accepting(removed.clone()));
    assert_eq!(dialling, Err(SessionError::Removed { node: 1, by: 2 }));
    link(dial(&secret(), hello(3)), accepting(removed), usize::MAX);
}

#[test]
fn something_else_than_a_cld_server_is_recognized_by_its_first_byte() {
    assert_eq!(receive(&mut accept(2), b"GET / HTTP/1.1\r\n", 1), Err(SessionError::Stranger));
    assert_eq!(receive(&mut dial(&secret(), hello(1)), b"SSH-2.0-", 8), Err(SessionError::Stranger));
    let mut later = sent(&mut dial(&secret(), hello(1)));
    later[7] = 3;
    assert_eq!(receive(&mut accept(2), &later, 8), Err(SessionError::HandshakeVersion { found: 3 }));
}

#[test]
fn an_oversized_handshake_is_refused_by_its_length_alone() {
    let mut two = accept(2);
    let mut bytes = PREAMBLE.to_vec();
    bytes.extend_from_slice(&u16::try_from(MAX_HANDSHAKE + 1).unwrap().to_be_bytes());
    assert_eq!(two.handle_bytes(&bytes), bytes.len());
    assert_eq!(two.room(), 0, "no more is taken");
    assert_eq!(two.poll_frame(), Err(SessionError::HandshakeSize { length: MAX_HANDSHAKE + 1 }));
}

#[test]
fn a_handshake_of_any_length_without_the_secret_is_refused() {
    for length in 0..=MAX_HANDSHAKE {
        let mut bytes = PREAMBLE.to_vec();
        bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        bytes.resize(bytes.len() + length, 0);
        for mut session in [accept(2), dial(&secret(), hello(1))] {
            assert_eq!(
                receive(&mut session, &bytes, usize::MAX),
                Err(SessionError::Secret),
                "{length} bytes"
            );
        }
    }
}

#[test]
fn a_recorded_connection_cannot_be_replayed() {
    let (mut one, mut two) = (dial(&secret(), hello(1)), accept(2));
    let first = sent(&mut one);
    receive(&mut two, &first, usize::MAX).unwrap();
    receive(&mut one, &sent(&mut two), usize::MAX).unwrap();
    one.send(&message("transfer the mastership").encode());
    let second = sent(&mut one);
    assert_eq!(receive(&mut two, &second, usize::MAX), Ok(vec![message("transfer the mastership")]));

    let mut again = accept(3);
    assert_eq!(receive(&mut again, &first, usize::MAX), Ok(vec![]));
    assert_eq!(again.peer(), None);
    assert_eq!(receive(&mut again, &second, usize::MAX), Err(SessionError::Replayed));
    assert_eq!(again.peer(), None);
}

#[test]
fn the_handshake_does_not_show_who_connects() {
    let bytes = sent(&mut dial(&secret(), hello(1)));
    let cell = CELL.to_be_bytes();
    assert!(!bytes.windows(cell.len()).any(|window| window == cell));
}

proptest! {
    #[test]
    fn a_changed_handshake_fails(place in 8_usize..100, change in 1_u8..) {
        let (mut one, mut two) = (dial(&secret(), hello(1)), accept(2));
        let mut bytes = sent(&mut one);
        let place = place.min(bytes.len() - 1);
        bytes[place] ^= change;
        // A changed length may make it wait for more, and never lets anybody in.
        let _ = receive_some(&mut two, &bytes);
        prop_assert!(sent(&mut two).is_empty() && two.peer().is_none());
    }

    #[test]
    fn arbitrary_bytes_let_nobody_in(bytes: Vec<u8>, behind_preamble: bool) {
        let mut all = if behind_preamble { PREAMBLE.to_vec() } else { vec![] };
        all.extend(bytes);
        for mut session in [accept(2), dial(&secret(), hello(1))] {
            let _ = sent(&mut session);
            let _ = receive_some(&mut session, &all);
            prop_assert!(sent(&mut session).is_empty() && session.peer().is_none());
        }
    }
}

/// Gives a session as much as it takes.
fn receive_some(session: &mut Session, bytes: &[u8]) -> Result<(), SessionError> {
    let mut rest = bytes;
    loop {
        let taken = session.handle_bytes(rest);
        rest = &rest[taken..];
        assert_eq!(session.poll_frame()?, None);
        if taken == 0 {
            return Ok(());
        }
    }
}

#[test]
fn nobody_is_expected_where_there_are_no_members() {
    let alone = Session::accept(&secret(), hello(2), Expected::Only(BTreeSet::new()), [2; 32]).unwrap();
    let [accepting, _] = refusals(dial(&secret(), hello(1)), alone);
    assert!(matches!(accepting, Err(SessionError::Unexpected { node: 1, .. })));
}
