//! Bytes that no honest server sends, and errors that Hail's server sends in the wrong place.

use cldc_core::session::{CallError, End, FullSession, Rejected, SmallSession};
use cldc_core::time::Duration;
use cldc_core::wire::limits::PIECE;
use cldc_core::wire::{Answer, Code, EventMask, Op, OpenMode, Part};

use crate::support::bare::Bare;
use crate::support::client::{Came, Client, Told};
use crate::support::name_space::{done, emit};
use crate::support::peer::{one_shot, packet, shifted};
use crate::support::random::Random;

#[test]
fn an_unknown_session_is_learnt_at_once_from_both_kinds_of_footer() {
    for is_shifted in [false, true] {
        let mut bare = Bare::<SmallSession>::connected(1);
        let now = bare.now;
        let request = bare.session.nop(now).unwrap();
        let sent = bare.only_sent();
        let sid = bare.session.id();
        // Of another request, or of another packet, it says nothing about ours.
        let strangers = [(sent.xid() ^ 1, sent.number), (sent.xid(), sent.number.wrapping_add(1))];
        for (xid, number) in strangers {
            let refusal = one_shot(sid, Op::Nop, xid, number, Code::SessInval, is_shifted);
            assert!(bare.receive(&refusal).is_err());
        }
        assert_eq!(bare.told(), []);
        let refusal = one_shot(sid, Op::Nop, sent.xid(), sent.number, Code::SessInval, is_shifted);
        bare.receive(&refusal).unwrap();
        assert_eq!(bare.told(), [Told::Done(request, Err(Code::Timeout)), Told::Ended(End::Expired)]);
        assert_eq!(bare.session.nop(now), Err(CallError::Ended));
        assert_eq!(bare.receive(&refusal), Err(Rejected::Ended));
    }
}

#[test]
fn an_unknown_session_is_learnt_from_the_stream_too_and_ends_an_ending_session_well() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let now = bare.now;
    let request = bare.session.nop(now).unwrap();
    let sent = bare.only_sent();
    bare.say(done(Op::Nop, sent.xid(), Code::SessInval)).unwrap();
    assert_eq!(bare.told(), [Told::Done(request, Err(Code::SessInval)), Told::Ended(End::Expired)]);

    let mut bare = Bare::<SmallSession>::connected(1);
    let now = bare.now;
    bare.session.end(now).unwrap();
    let sent = bare.only_sent();
    let refusal = one_shot(bare.session.id(), Op::EndSess, sent.xid(), sent.number, Code::SessInval, true);
    bare.receive(&refusal).unwrap();
    assert_eq!(bare.told(), [Told::Ended(End::Closed)]);
}

#[test]
fn a_request_that_the_server_could_not_read_is_answered_bad_pkt() {
    for is_shifted in [false, true] {
        let mut bare = Bare::<SmallSession>::connected(1);
        let now = bare.now;
        let request = bare.session.nop(now).unwrap();
        let sent = bare.only_sent();
        let refusal = one_shot(bare.session.id(), Op::Nop, sent.xid(), sent.number, Code::BadPkt, is_shifted);
        bare.receive(&refusal).unwrap();
        assert_eq!(bare.told(), [Told::Done(request, Err(Code::BadPkt))]);
        bare.wait(Duration::from_secs(4));
        assert_eq!(bare.sent(), []);
    }
}

#[test]
fn the_end_of_a_session_is_acknowledged_so_that_hails_server_releases_its_locks() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let now = bare.now;
    bare.session.end(now).unwrap();
    let sent = bare.only_sent();
    bare.say(done(Op::EndSess, sent.xid(), Code::Ok)).unwrap();
    assert_eq!(bare.told(), [Told::Ended(End::Closed)]);
    assert_eq!(bare.acks(), [2]);
    assert_eq!(bare.session.timeout(), None);
}

#[test]
fn a_well_formed_fragment_acknowledgement_is_harmless() {
    let mut bare = Bare::<FullSession>::connected(1);
    let handle = bare.open(2);
    let now = bare.now;
    let small = bare.session.get(now, handle).unwrap();
    let large = bare.session.put(now, handle, &[1; 5_000]).unwrap();
    let sent = bare.sent();
    assert_eq!(sent.len(), 6);
    let sid = bare.session.id();
    // Of every packet, of those around, of anything: none of it is an answer.
    let around = (0..8).map(|index| sent[0].number.wrapping_sub(1).wrapping_add(index));
    for number in around.chain([0, u64::MAX, 0xdead_beef]) {
        let (op, body) = emit(Answer::AckFrag { number });
        for emit in [packet, shifted] {
            for body in [&body[..], &body[..4], &[]] {
                let _ = bare.receive(&emit(sid, Part::Only { xid: 1, op }, 0xdead_beef, body));
            }
        }
    }
    assert_eq!(bare.told(), []);
    bare.wait(Duration::from_secs(1));
    assert_eq!(bare.sent(), sent, "all is sent again, from the first piece on");
    bare.say(done(Op::Get, sent[0].xid(), Code::InodeInval)).unwrap();
    assert_eq!(bare.told(), [Told::Done(small, Err(Code::InodeInval))]);
    bare.say(done(Op::Put, sent[1].xid(), Code::Ok)).unwrap();
    assert_eq!(bare.told(), [Told::Done(large, Ok(Came::Done))]);
}

#[test]
fn pieces_are_put_together_by_number_and_strays_and_duplicates_are_not_added() {
    let mut bare = Bare::<SmallSession>::connected(10);
    let handle = bare.open(2);
    let now = bare.now;
    let sid = bare.session.id();
    let request = bare.session.get(now, handle).unwrap();
    let xid = bare.only_sent().xid();
    let data = [7; 1_000];
    let (op, body) =
        emit(Answer::Contents { xid, metadata: Default::default(), path: b"/file", data: &data });
    let (first, last) = body.split_at(PIECE);
    let first = packet(sid, Part::First { xid: 7, op }, bare.next, first);
    let last = packet(sid, Part::Last, bare.next.wrapping_add(1), last);
    let stray = packet(sid, Part::Last, bare.next, b"");
    // A last piece without a first one uses up its number, and that is all.
    let number = bare.next;
    bare.receive(&stray).unwrap();
    assert_eq!((bare.told(), bare.acks()), (vec![], vec![number]));
    let shift = |datagram: &[u8], part, by: u64| {
        let packet = cldc_core::wire::Packet::parse(datagram).unwrap();
        crate::support::peer::packet(sid, part, packet.number.wrapping_add(by), packet.piece)
    };
    let first = shift(&first, Part::First { xid: 7, op }, 1);
    let last = shift(&last, Part::Last, 1);
    for datagram in [&first, &first, &first, &last, &last] {
        let _ = bare.receive(datagram);
    }
    let told = bare.told();
    assert!(
        matches!(&told[..], [Told::Done(id, Ok(Came::Contents { data: found, .. }))] if *id == request && found == &data)
    );
    for datagram in [&last, &first] {
        bare.receive(datagram).unwrap();
    }
    assert_eq!(bare.told(), [], "a stray last piece answers nothing a second time");
}

#[test]
fn answers_that_make_no_sense_are_reported_or_ignored_and_the_session_goes_on() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let handle = bare.open(2);
    let now = bare.now;
    for (op, body) in [
        (Op::Nop, vec![]),
        (Op::Nop, vec![0; 11]),
        (Op::Event, vec![0; 11]),
        (Op::Unknown(77), vec![0; 40]),
        (Op::Ping, vec![0xff; 1_024]),
        (Op::Open, vec![0xff; 12]),
        (Op::Get, vec![0; 12]),
        (Op::AckFrag, vec![]),
    ] {
        let _ = bare.say((op, body));
        assert_eq!(bare.told(), [], "{op:?}");
    }
    bare.next = bare.next.wrapping_sub(1); // An ACK_FRAG uses up no number.
    bare.acks();
    // An answer cut short, whose request can still be told.
    let request = bare.session.get(now, handle).unwrap();
    let xid = bare.only_sent().xid();
    bare.say((Op::Get, done(Op::Get, xid, Code::Ok).1)).unwrap();
    assert_eq!(bare.told(), [Told::Done(request, Err(Code::BadPkt))]);
}

#[test]
fn an_orphan_that_cannot_be_closed_is_given_up() {
    let mut bare = Bare::<SmallSession>::connected(1);
    let now = bare.now;
    let request = bare.session.open(now, b"/file", OpenMode::READ, EventMask::NONE).unwrap();
    bare.session.abandon(request);
    let xid = bare.only_sent().xid();
    bare.say(emit(Answer::Opened { xid, fh: 2 })).unwrap();
    let close = bare.sent().into_iter().find(|sent| !sent.is_ack()).unwrap();
    assert_eq!(close.part.op(), Some(Op::Close));
    bare.say(done(Op::Close, close.xid(), Code::DbErr)).unwrap();
    assert_eq!(bare.told(), []);
    bare.acks();
}

fn any_bytes<C: Client>(rounds: u64) {
    for seed in 0..rounds {
        let mut random = Random(seed);
        let mut bare = Bare::<C>::connected(random.next_u64());
        bare.open(2);
        for _ in 0..60 {
            let now = bare.now;
            let call = match random.below(8) {
                0 => bare.session.nop(now).map(drop),
                1 => bare.session.get(now, cldc_core::session::Handle(2)).map(drop),
                2 => bare.session.open(now, b"/x", OpenMode::READ, EventMask::UPDATED).map(drop),
                3 => bare.session.put(now, cldc_core::session::Handle(2), &[1; 1_024]).map(drop),
                _ => Ok(()),
            };
            let _ = call;
            let xids: Vec<u64> = bare
                .sent()
                .iter()
                .filter_map(|sent| match sent.part {
                    Part::Only { xid, .. } | Part::First { xid, .. } => Some(xid),
                    _ => None,
                })
                .collect();
            let len = random.below(1_200) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
            // Often the beginning of a true answer.
            if let Some(&xid) = xids.first() {
                let (_, answer) = done(Op::Nop, xid, Code::from_wire(random.below(19) as i32));
                if len > answer.len() {
                    bytes[..answer.len()].copy_from_slice(&answer);
                }
            }
            let op = Op::from_wire(random.below(19) as i32);
            let xid = random.next_u64();
            let parts = [Part::Only { xid, op }, Part::First { xid, op }, Part::Middle, Part::Last];
            let part = parts[random.below(4) as usize];
            let number = bare.next.wrapping_add(random.below(5)).wrapping_sub(random.below(3));
            let emit = if random.percent(30) { shifted } else { packet };
            bytes.truncate(PIECE);
            let datagram = emit(bare.session.id(), part, number, &bytes);
            if bare.receive(&datagram).is_ok() {
                bare.next = bare.next.max(number.wrapping_add(1));
            }
            let _ = bare.receive(&bytes);
            assert!(bare.told().len() < 1_000, "it tells without end");
            bare.wait(Duration::from_millis(random.below(3_000)));
        }
    }
}

#[test]
fn no_bytes_signed_or_not_make_a_session_panic_or_run_without_end() {
    any_bytes::<SmallSession>(400);
    any_bytes::<FullSession>(100);
}
