//! The codec: whatever decodes must encode again, to the same bytes where the protocol leaves no choice.

use cldc_core::wire::extended::{self, EventDetail, Hello, Master, Sequencer, Welcome};
use cldc_core::wire::limits::{FOOTER, MAC};
use cldc_core::wire::{
    Answer, Forged, Full, Key, Op, Packet, Request, Seal, Writer, answer, dirent as directory,
};

/// One datagram, with both footers, and the message in it.
pub fn packet(data: &[u8]) {
    let Ok(packet) = Packet::parse(data) else { return };
    let key = Key::new(b"fuzz").expect("the key is not empty");
    let seal = Seal { sid: packet.sid, user: packet.user, key: &key };
    let mut buffer = vec![0; data.len()];

    let len = seal
        .emit_with(packet.rider, packet.part, packet.number, packet.piece, &mut buffer)
        .expect("the packet fitted before");
    assert_eq!(len, data.len(), "the length changed");
    let again = Packet::parse(&buffer).expect("own packets decode");
    assert_eq!(again.verify(&key), Ok(()), "own packets verify");
    assert_eq!(fields(&again), fields(&packet));
    if padding_is_zero(&packet, data) {
        assert_eq!(buffer.split_last_chunk::<MAC>().map(|(signed, _)| signed), data.get(..len - MAC));
    }
    if packet.verify(&key).is_ok() && padding_is_zero(&packet, data) {
        assert_eq!(buffer, data, "the same key gives the same packet");
    }

    let _ = packet.verify_shifted(&key);
    if packet.rider.is_none() {
        shifted(&packet, &key, &mut buffer);
    }
    if let Some(op) = packet.part.op() {
        message(op, packet.piece);
    }
}

/// The same packet with the other footer.
fn shifted(packet: &Packet<'_>, key: &Key, buffer: &mut [u8]) {
    let seal = Seal { sid: packet.sid, user: packet.user, key };
    let len = seal.emit_shifted(packet.part, packet.number, packet.piece, [0x5a; 8], buffer);
    assert_eq!(len, Ok(buffer.len()));
    let again = Packet::parse(buffer).expect("own packets decode");
    assert_eq!(again.verify(key), Err(Forged));
    assert_eq!(again.verify_shifted(key), Ok(packet.number));
}

/// One message body in both directions; the first byte chooses the operation.
pub fn messages(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let unnamed = Op::Unknown(i32::from(choice));
    message(Op::ALL.get(usize::from(choice)).copied().unwrap_or(unnamed), body);
}

/// The contents of a directory.
pub fn dirent(data: &[u8]) {
    let names: Vec<&[u8]> = directory::Names::new(data).map_while(Result::ok).collect();
    // The zeros after the last name may be missing in what came in.
    let mut buffer = vec![0; data.len().next_multiple_of(8)];
    let mut out = Writer::new(&mut buffer);
    for name in &names {
        directory::emit(name, &mut out).expect("the names fitted before");
    }
    assert!(directory::Names::new(out.written()).eq(names.iter().copied().map(Ok)));
}

fn message(op: Op, body: &[u8]) {
    if let Ok(request) = Request::parse(op, body) {
        let bytes = emitted(body, |out| request.emit(out));
        assert_eq!(Request::parse(request.op(), &bytes), Ok(request));
    }
    if let Ok(answer) = Answer::parse(op, body) {
        let bytes = emitted(body, |out| answer.emit(out));
        assert_eq!(Answer::parse(answer.op(), &bytes), Ok(answer));
    }
    let _ = answer::outcome(body);
    extended_parts(body);
}

/// What extended peers say behind a plain body.
fn extended_parts(body: &[u8]) {
    if let Some(hello) = Hello::of(body) {
        assert_eq!(Hello::of(&emitted(body, |out| hello.emit(out))), Some(hello));
    }
    // A list of addresses may hold some that are not kept: it is shorter when it is written again.
    if let Some((master, _)) = Master::of(body) {
        let again = Master::of(&emitted(body, |out| master.emit(out)));
        assert_eq!(again.map(|(master, _)| master), Some(master));
    }
    let _ = (Welcome::of(body), Sequencer::of(body), EventDetail::of(body));
    let _ = (extended::challenge(body), extended::alive(body));
    if let Some((_, stands)) = extended::resumed(body) {
        assert!(stands.count() <= body.len());
    }
}

/// What `emit` writes for a message that was decoded from `body`; less room than that must be refused.
fn emitted(body: &[u8], emit: impl Fn(&mut Writer<'_>) -> Result<(), Full>) -> Vec<u8> {
    let mut buffer = vec![0; body.len()];
    let mut out = Writer::new(&mut buffer);
    emit(&mut out).expect("the message fitted before");
    let len = out.len();
    if let Some(short) = len.checked_sub(1).and_then(|short| buffer.get_mut(..short)) {
        assert_eq!(emit(&mut Writer::new(short)), Err(Full));
    }
    emit(&mut Writer::new(&mut buffer)).expect("it fits again");
    buffer.truncate(len);
    buffer
}

fn fields<'a>(packet: &Packet<'a>) -> impl PartialEq + std::fmt::Debug + use<'a> {
    (packet.sid, packet.user, packet.part, packet.number, packet.piece, packet.rider)
}

/// Whether the zeros after the user's name are zeros: a packet with others decodes, but is not what we would send.
fn padding_is_zero(packet: &Packet<'_>, data: &[u8]) -> bool {
    let user_end = 8 + 8 + 4 + packet.user.len();
    let padded = user_end.next_multiple_of(4).min(data.len() - FOOTER);
    data.get(user_end..padded).is_some_and(|padding| padding.iter().all(|&byte| byte == 0))
}
