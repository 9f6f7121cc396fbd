//! Packets as a hostile or clumsy client may send them: pieces, numbers, lengths (protocol.md 1, 2, 4; failures.md 14-17, 19, 21, 29).
#![expect(clippy::panic, reason = "a helper that fails is a failed test")]

use std::time::Duration;

use cld_tests::raw::codes::{code, lock, mode, op};
use cld_tests::raw::{Acks, Answer, Head, Packet, RawSession, Request, sign};
use cld_tests::rng::Rng;
use cld_tests::server::Cld;

const INTERVAL: Duration = Duration::from_secs(1);

/// A session with the file `/f` open.
fn with_file(cld: &Cld) -> (RawSession, u64) {
    let mut session = cld.connect("tester");
    let fh = session.create("/f");
    (session, fh)
}

#[track_caller]
fn assert_contents(session: &mut RawSession, fh: u64, version: u64, data: &[u8]) {
    let node = session.get(fh).unwrap_or_else(|code| panic!("GET: code {code}"));
    assert_eq!((node.version, node.data.len()), (version, data.len()));
    assert!(node.data == data, "{} bytes that differ", data.len());
}

#[test]
fn contents_of_every_length_around_a_piece_are_kept() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let mut rng = Rng::new(1);
    // A PUT's body is 12 bytes longer than its contents: 1012 and 2036 fill whole pieces.
    let lengths =
        [0, 1, 3, 1008, 1011, 1012, 1013, 1023, 1024, 1025, 2035, 2036, 2037, 2047, 2048, 131_071, 131_072];
    for (length, version) in lengths.into_iter().zip(2..) {
        let data = rng.bytes(length);
        let put = Request::Put { fh, data: data.clone() };
        assert_eq!(session.call_until_answered(&put, INTERVAL).code, code::OK, "{length} bytes");
        assert_contents(&mut session, fh, version, &data);
    }
    assert!(session.strange.is_empty(), "{:?}", session.strange);
}

#[test]
fn contents_that_are_one_byte_too_long_are_refused_and_change_nothing() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    assert_eq!(session.put(fh, b"old"), code::OK);
    let put = Request::Put { fh, data: vec![1; 131_073] };
    assert_eq!(session.call_until_answered(&put, INTERVAL).code, code::BAD_PKT);
    assert_contents(&mut session, fh, 2, b"old");
}

#[test]
fn a_message_above_the_reassembly_limit_is_refused_and_the_session_goes_on() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let mut body = Request::Put { fh, data: vec![1; 8] }.encode();
    body.resize(196_608 + 1024, 0);
    let xid = session.new_xid();
    let pieces = session.pieces(xid, op::PUT, &body, &[1024; 193]);
    // Paced, so that none is lost in the server's socket buffer.
    for burst in pieces.chunks(16) {
        session.send_all(burst);
        std::thread::sleep(Duration::from_millis(2));
    }
    let settled = session.call_until_answered(&Request::Nop, INTERVAL);
    assert_eq!(settled.code, code::OK);
    assert_contents(&mut session, fh, 1, b"");
}

#[test]
fn pieces_of_any_size_make_a_message() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let data = Rng::new(2).bytes(3000);
    let body = Request::Put { fh, data: data.clone() }.encode();
    let cuts: [&[usize]; 5] = [&[5, 3, 8], &[1; 40], &[2500], &[4000], &[0, 1024, 0, 1024]];
    for (sizes, version) in cuts.into_iter().zip(2..) {
        let xid = session.new_xid();
        let pieces = session.pieces(xid, op::PUT, &body, sizes);
        session.send_all(&pieces);
        assert_eq!(session.reply(xid).code, code::OK, "{sizes:?}");
        assert_contents(&mut session, fh, version, &data);
    }
}

#[test]
fn pieces_out_of_order_and_sent_again_make_the_message_once() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let data = Rng::new(3).bytes(5000);
    let (xid, pieces) = session.prepare(&Request::Put { fh, data: data.clone() });
    for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        for at in order {
            session.send(&pieces[at]);
        }
    }
    session.send_all(&pieces);
    assert_eq!(session.reply(xid).code, code::OK);
    assert_contents(&mut session, fh, 2, &data);
}

#[test]
fn pieces_that_come_twice_are_used_once() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let data = Rng::new(4).bytes(5000);
    let (xid, pieces) = session.prepare(&Request::Put { fh, data: data.clone() });
    for piece in &pieces {
        session.send(piece);
        session.send(piece);
    }
    session.send_all(&pieces);
    assert_eq!(session.reply(xid).code, code::OK);
    assert_contents(&mut session, fh, 2, &data);
}

#[test]
fn an_ack_between_pieces_does_not_break_the_message() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let last_reply = session.expected().unwrap().wrapping_sub(1);
    let data = Rng::new(5).bytes(3000);
    let (xid, pieces) = session.prepare(&Request::Put { fh, data: data.clone() });
    for piece in &pieces {
        session.send(piece);
        session.ack(last_reply);
    }
    assert_eq!(session.reply(xid).code, code::OK);
    assert_contents(&mut session, fh, 2, &data);
}

#[test]
fn pieces_of_an_unfinished_message_are_forgotten_when_another_begins() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let (_, pieces) = session.prepare(&Request::Put { fh, data: vec![1; 3000] });
    session.send_all(&pieces[..2]);
    // Its last piece never comes: the number goes to another message.
    session.next = session.next.wrapping_sub(1);
    assert_eq!(session.put(fh, b"whole"), code::OK);
    assert_contents(&mut session, fh, 2, b"whole");
}

#[test]
fn a_stray_piece_does_nothing_and_uses_up_its_number() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    assert_eq!(session.put(fh, b"once"), code::OK);
    for last in [true, false, true] {
        let stray = session.packet(None, last, &Request::Put { fh, data: b"twice".to_vec() }.encode());
        session.send(&stray);
        session.settle();
    }
    assert_contents(&mut session, fh, 2, b"once");
    assert!(session.inbox().is_empty(), "{:?}", session.inbox());
}

#[test]
fn a_piece_of_an_unknown_session_gets_no_answer() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    let known = session.sid;
    session.sid = known.wrapping_add(1);
    for last in [false, true] {
        let piece = session.packet(None, last, b"bytes");
        session.send(&piece);
        session.next = session.next.wrapping_sub(1);
    }
    session.sid = known;
    session.settle();
    assert!(session.strange.is_empty() && session.inbox().is_empty(), "{}", session.what_came());
}

#[test]
fn no_piece_is_acknowledged_by_ack_frag() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    assert_eq!(session.put(fh, &[7; 5000]), code::OK);
    session.settle();
    assert!(session.inbox().is_empty() && session.strange.is_empty(), "{}", session.what_came());
}

#[test]
fn the_pieces_of_a_reply_are_whole_and_contiguous() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    assert_eq!(session.put(fh, &[7; 5000]), code::OK);
    let first = session.expected().unwrap();
    let reply = session.call(&Request::Get { fh });
    // 56 bytes before the contents with the name "/f".
    assert_eq!(reply.message.number.wrapping_sub(first) + 1, 5056_u64.div_ceil(1024));
}

#[test]
fn numbers_wrap_at_the_end() {
    let cld = Cld::start();
    for start in [u64::MAX, u64::MAX - 1, u64::MAX - 4, 0] {
        let mut session = RawSession::new(cld.address(), "tester");
        session.next = start;
        assert_eq!(session.call(&Request::NewSess).code, code::OK, "first number {start:x}");
        let fh = session.create("/wrap");
        assert_eq!(session.put(fh, &[1; 5000]), code::OK);
        assert_eq!(session.get(fh).unwrap().data.len(), 5000);
        session.settle();
        assert!(session.next < 20);
    }
}

#[test]
fn a_duplicate_request_is_executed_once_and_its_reply_is_the_same() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let (xid, datagrams) = session.prepare(&Request::Put { fh, data: b"once".to_vec() });
    for _ in 0..3 {
        session.send_all(&datagrams);
    }
    assert_eq!(session.reply(xid).code, code::OK);
    session.settle();
    assert!(session.inbox().is_empty(), "one reply alone: {}", session.what_came());
    // And after its reply was acknowledged.
    session.send_all(&datagrams);
    assert_contents(&mut session, fh, 2, b"once");
    let (xid, datagrams) =
        session.prepare(&Request::Open { mode: mode::READ, events: 0, path: b"/f".to_vec() });
    for _ in 0..3 {
        session.send_all(&datagrams);
    }
    let Answer::Opened { fh: opened, .. } = session.reply(xid).message.answer else { panic!() };
    session.settle();
    assert!(session.inbox().is_empty(), "one handle alone: {}", session.what_came());
    assert_eq!(session.open("/f", mode::READ, 0), Ok(opened + 1));
}

#[test]
fn a_lost_reply_comes_again_with_the_same_bytes() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    session.acks = Acks::Never;
    let before = session.duplicates;
    assert_eq!(session.put(fh, b"x"), code::OK);
    let again = session.duplicates;
    assert_eq!(again, before);
    // Unacknowledged, the reply is sent again after 2 s, and after 5 s more.
    session.patience = Duration::from_secs(20);
    let deadline = std::time::Instant::now() + session.patience;
    while session.duplicates < 2 {
        assert!(std::time::Instant::now() < deadline, "no resends; {}", session.what_came());
        let _ = session.try_wait(Duration::from_millis(200), |_| None::<()>);
    }
    assert!(session.inbox().is_empty());
}

#[test]
fn bytes_behind_a_message_are_ignored() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    for request in [
        Request::Nop,
        Request::Open { mode: mode::READ, events: 0, path: b"/f".to_vec() },
        Request::Get { fh },
        Request::Put { fh, data: b"data".to_vec() },
        Request::Lock { fh, flags: lock::EXCLUSIVE },
        Request::Unlock { fh },
    ] {
        let mut body = request.encode();
        body.extend(b"trailing");
        let xid = session.request_raw(request.op(), &body);
        assert_eq!(session.reply(xid).code, code::OK, "{request:?}");
    }
    assert_contents(&mut session, fh, 2, b"data");
}

#[test]
fn padding_that_is_not_zero_is_ignored() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    let mut body = Request::Put { fh, data: b"x".to_vec() }.encode();
    body.truncate(body.len() - 3);
    body.extend([0xff; 3]);
    let xid = session.request_raw(op::PUT, &body);
    assert_eq!(session.reply(xid).code, code::OK);
    assert_contents(&mut session, fh, 2, b"x");
}

#[test]
fn a_body_that_is_too_short_is_a_bad_packet() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    for request in [
        Request::Open { mode: mode::READ, events: 0, path: b"/f".to_vec() },
        Request::Get { fh },
        Request::GetMeta { fh },
        Request::Put { fh, data: b"data".to_vec() },
        Request::Close { fh },
        Request::Del { path: b"/f".to_vec() },
        Request::Lock { fh, flags: lock::EXCLUSIVE },
        Request::TryLock { fh, flags: lock::EXCLUSIVE },
        Request::Unlock { fh },
    ] {
        let body = request.encode();
        for length in [0, 4, body.len() - 1] {
            let xid = session.request_raw(request.op(), &body[..length]);
            let reply = session.reply(xid);
            let got = (reply.code, reply.message.op, reply.message.numbered);
            assert_eq!(got, (code::BAD_PKT, request.op(), true), "{request:?} cut to {length}");
        }
    }
    assert_contents(&mut session, fh, 1, b"");
}

#[test]
fn a_length_that_exceeds_its_limit_or_the_packet_is_a_bad_packet() {
    let cld = Cld::start();
    let (mut session, fh) = with_file(&cld);
    for length in [257_u32, 1000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 3, u32::MAX] {
        let mut path = length.to_be_bytes().to_vec();
        path.extend([b'/'; 400]);
        let xid = session.request_raw(op::DEL, &path);
        assert_eq!(session.reply(xid).code, code::BAD_PKT, "a path of {length}");
        let mut data = fh.to_be_bytes().to_vec();
        data.extend((length | 0x4000_0000).to_be_bytes());
        data.extend([1; 400]);
        let xid = session.request_raw(op::PUT, &data);
        assert_eq!(session.reply(xid).code, code::BAD_PKT, "contents of {length}");
    }
    assert_contents(&mut session, fh, 1, b"");
}

#[test]
fn an_unknown_operation_uses_up_its_number_and_gets_no_reply() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    for unknown in
        [5, op::PING, op::NOT_MASTER, op::EVENT, op::ACK_FRAG, 18, 63, 1000, i32::MAX, -1, i32::MIN]
    {
        session.request_raw(unknown, &[0; 16]);
        session.settle();
        assert!(session.inbox().is_empty(), "op {unknown}: {}", session.what_came());
    }
}

#[test]
fn garbage_gets_no_answer_and_harms_nobody() {
    let cld = Cld::start();
    let mut session = cld.connect("tester");
    let whole = {
        let head = Some(Head { xid: 1, op: op::NOP });
        let packet = Packet {
            sid: session.sid,
            user: b"tester".to_vec(),
            head,
            last: true,
            body: Vec::new(),
            number: session.next,
        };
        packet.encode(&session.key)
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut datagram = whole.clone();
        datagram[at..at + bytes.len()].copy_from_slice(bytes);
        // Signed again, so that the flaw is all that is wrong with it.
        let signed = datagram.len() - 20;
        let hmac = sign(b"tester", &datagram[..signed]);
        datagram[signed..].copy_from_slice(&hmac);
        datagram
    };
    let mut garbage: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    garbage.extend([
        with(0, b"CLDc1pkt"),
        with(16, &33_u32.to_be_bytes()),
        with(16, &0xffff_fffd_u32.to_be_bytes()),
        with(16, &u32::MAX.to_be_bytes()),
        with(28, &4_u32.to_be_bytes()),
        with(28, &u32::MAX.to_be_bytes()),
        vec![0; 65_507],
        vec![0xff; 2000],
    ]);
    let mut rng = Rng::new(6);
    garbage.extend((0..200).map(|length| rng.bytes(length * 7)));
    for (i, datagram) in garbage.iter().enumerate() {
        session.send(datagram);
        if i % 16 == 0 {
            session.settle();
        }
    }
    session.settle();
    assert!(session.strange.is_empty() && session.inbox().is_empty(), "{}", session.what_came());
}

#[test]
fn every_captured_request_with_one_byte_changed_is_survived() {
    let cld = Cld::start();
    let mut witness = cld.connect("witness");
    let mut rng = Rng::fresh();
    let datagrams: Vec<Vec<u8>> = (cld_tests::vectors::load_all().into_iter())
        .filter(|scenario| scenario.name != "04_put_get_100k")
        .flat_map(|scenario| scenario.records)
        .map(|record| record.datagram)
        .collect();
    for (i, mut datagram) in datagrams.into_iter().enumerate() {
        let at = rng.below(datagram.len() as u64) as usize;
        datagram[at] = rng.next_u64() as u8;
        witness.send(&datagram);
        if i % 16 == 0 {
            witness.settle();
        }
    }
    witness.settle();
}
