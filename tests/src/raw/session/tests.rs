//! The session's rules for what it receives, against a scripted peer.

use super::*;

/// A server of one request at a time, that a test scripts.
fn peer() -> (UdpSocket, RawSession) {
    let server = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = RawSession::new(server.local_addr().unwrap(), "u");
    (server, session)
}

fn take(server: &UdpSocket) -> (Packet, SocketAddr) {
    let mut buffer = [0; 4096];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    let (packet, footer) = Packet::open(&buffer[..length], b"u").unwrap();
    assert_eq!(footer, Footer::Standard);
    (packet, from)
}

fn answer(sid: u64, op: i32, number: u64, answer: &Answer) -> Vec<u8> {
    let head = Some(Head { xid: 1, op });
    Packet { sid, user: b"u".to_vec(), head, last: true, body: answer.encode(), number }.encode(b"u")
}

fn confirm(server: &UdpSocket, session: &mut RawSession) -> SocketAddr {
    let xid = session.request(&Request::NewSess);
    let (packet, client) = take(server);
    assert_eq!(packet.head, Some(Head { xid, op: op::NEW_SESS }));
    let ok = Answer::Result { code: code::OK, xid };
    server.send_to(&answer(session.sid, op::NEW_SESS, u64::MAX, &ok), client).unwrap();
    assert_eq!(session.reply(xid).code, code::OK);
    assert_eq!(take(server).0.number, u64::MAX, "the reply is acknowledged by its number");
    client
}

#[test]
fn numbered_packets_are_taken_once_in_order_and_acknowledged() {
    let (server, mut session) = peer();
    let client = confirm(&server, &mut session);
    let event = |fh, number| answer(session.sid, op::EVENT, number, &Answer::Event { fh, events: 1 });
    let (first, second) = (event(7, 0), event(8, 1));
    for datagram in [&second, &first, &first, &second] {
        server.send_to(datagram, client).unwrap();
    }
    assert_eq!((session.event(), session.event()), ((7, 1), (8, 1)));
    assert_eq!(session.duplicates, 1);
    let acked: Vec<u64> = (0..3).map(|_| take(&server).0.number).collect();
    assert_eq!(acked, [0, 0, 1]);
}

#[test]
fn a_message_is_put_together_from_its_pieces() {
    let (server, mut session) = peer();
    let client = confirm(&server, &mut session);
    let xid = session.request(&Request::Get { fh: 2 });
    let node = Node {
        inum: 60,
        version: 1,
        time_create: 0,
        time_modify: 0,
        flags: 0,
        name: b"/f".to_vec(),
        data: vec![3; 1500],
    };
    let body = Answer::Contents { xid, node: node.clone() }.encode();
    for (i, piece) in body.chunks(PIECE).enumerate() {
        let head = (i == 0).then_some(Head { xid: 5, op: op::GET });
        let packet = Packet {
            sid: session.sid,
            user: b"u".to_vec(),
            head,
            last: i == 1,
            body: piece.to_vec(),
            number: i as u64,
        };
        server.send_to(&packet.encode(b"u"), client).unwrap();
    }
    let reply = session.reply(xid);
    assert_eq!((reply.message.answer, reply.message.numbered), (Answer::Contents { xid, node }, true));
}

#[test]
fn what_is_not_of_the_stream_is_told_apart() {
    let (server, mut session) = peer();
    let client = confirm(&server, &mut session);
    let xid = session.request(&Request::Nop);
    let refusal = Answer::Result { code: code::SESS_INVAL, xid };
    let number = session.next.wrapping_sub(1);
    let junk = Packet {
        sid: session.sid,
        user: b"u".to_vec(),
        head: Some(Head { xid: 1, op: op::NOP }),
        last: true,
        body: refusal.encode(),
        number,
    };
    server.send_to(&junk.encode_shifted(b"u", [9; 8]), client).unwrap();
    server.send_to(&junk.encode(b"wrong key"), client).unwrap();
    server.send_to(b"garbage", client).unwrap();
    server.send_to(&answer(session.sid, op::NOP, number, &refusal), client).unwrap();
    let reply = session.reply(xid);
    assert_eq!((reply.code, reply.message.number, reply.message.numbered), (code::SESS_INVAL, number, false));
    assert_eq!(session.strange.len(), 3, "{:?}", session.strange);
}

#[test]
#[should_panic(expected = "no reply to NOP xid")]
fn a_wait_ends_and_says_what_was_awaited() {
    let (_server, mut session) = peer();
    session.patience = Duration::from_millis(5);
    session.call(&Request::Nop);
}
