//! What holds for the codec whatever the bytes are: everything that can be encoded decodes to itself, nothing that
//! comes in makes it panic, and nothing that was changed on the way verifies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use cldc_core::wire::extended::{
    self, Addresses, EventDetail, Features, Hello, MAX_ADDRESSES, Master, Resume, Sequencer, Welcome,
    emit_addresses,
};
use cldc_core::wire::limits::{
    FOOTER, MAX_MESSAGE, MAX_PACKET, MAX_PATH, MAX_PAYLOAD, MAX_USER_FIELD, PIECE,
};
use cldc_core::wire::{
    Ack, Answer, Code, EventMask, Forged, Full, InodeFlags, Key, LockFlags, Malformed, Metadata, Op,
    OpenMode, Packet, Part, Request, Rider, Seal, Writer, answer, dirent, xdr,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::net::SocketAddr;

/// The values that messages are made of.
#[derive(Clone, Debug)]
struct Fields {
    numbers: [u64; 6],
    flags: [u32; 2],
    code: i32,
    path: Vec<u8>,
    data: Vec<u8>,
}

impl Fields {
    /// One request of each kind.
    fn requests(&self) -> Vec<Request<'_>> {
        let ([fh, ..], [flags, events], path, data) = (self.numbers, self.flags, &self.path, &self.data);
        let sequencer = self.sequencer();
        vec![
            Request::Nop,
            Request::NewSess { extension: data },
            Request::Open { mode: OpenMode(flags), events: EventMask(events), path },
            Request::GetMeta { fh },
            Request::Get { fh },
            Request::Put { fh, data },
            Request::Close { fh },
            Request::Del { path },
            Request::Lock { fh, flags: LockFlags(flags), wait: true },
            Request::Lock { fh, flags: LockFlags(flags), wait: false },
            Request::Unlock { fh },
            Request::EndSess,
            Request::Resume(Resume { hello: self.hello(), cookie: fh, oldest: self.numbers[1] }),
            Request::GetSequencer { fh },
            Request::CheckSequencer { sequencer },
            Request::PutFenced { sequencer, fh, data },
            Request::DelFenced { sequencer, path },
        ]
    }

    fn sequencer(&self) -> Sequencer<'_> {
        let [inode, generation, ..] = self.numbers;
        Sequencer { inode, generation, mode: LockFlags(self.flags[0]), path: &self.path }
    }

    fn hello(&self) -> Hello {
        let ([features, lease_ms], [window, max_message, ..]) = (self.flags, self.numbers.map(|n| n as u32));
        Hello { version: window.max(1), features: Features(features), lease_ms, window, max_message }
    }

    fn welcome(&self, servers: &[SocketAddr]) -> Welcome {
        let [_, epoch, grace_ms, window, max_message, requests] = self.numbers;
        Welcome {
            version: self.flags[0].max(1),
            features: Features(self.flags[1]),
            epoch,
            lease_ms: self.flags[0],
            grace_ms: grace_ms as u32,
            window: window as u32,
            max_message: max_message as u32,
            requests: requests as u32,
            servers: servers.iter().copied().collect(),
        }
    }

    /// One answer of each kind, and one for each operation that is answered by a code alone.
    fn answers(&self) -> Vec<Answer<'_>> {
        let [xid, fh, inode, version, created, modified] = self.numbers;
        let flags = InodeFlags(self.flags[0]);
        let mut answers = vec![
            Answer::Opened { xid, fh },
            Answer::Contents {
                xid,
                metadata: Metadata { inode, version, created, modified, flags },
                path: &self.path,
                data: &self.data,
            },
            Answer::Event { fh, events: EventMask(self.flags[1]) },
            Answer::Ping,
            Answer::NotMaster,
            Answer::AckFrag { number: xid },
        ];
        let code = Code::from_wire(self.code);
        let coded = Op::ALL.iter().filter(|&&op| match op {
            Op::Ping | Op::NotMaster | Op::Event | Op::AckFrag => false,
            Op::Open | Op::Get | Op::GetMeta => code != Code::Ok,
            _ => true,
        });
        answers.extend(coded.map(|&op| Answer::Done { op, xid, code }));
        answers
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let code = prop_oneof![select(Code::ALL).prop_map(Code::to_wire), any::<i32>()];
    (any::<[u64; 6]>(), any::<[u32; 2]>(), code, vec(any::<u8>(), 0..=MAX_PATH), vec(any::<u8>(), 0..3000))
        .prop_map(|(numbers, flags, code, path, data)| Fields { numbers, flags, code, path, data })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![select(Op::ALL), any::<i32>().prop_map(Op::from_wire)]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (any::<u64>(), op()).prop_map(|(xid, op)| Part::Only { xid, op }),
        (any::<u64>(), op()).prop_map(|(xid, op)| Part::First { xid, op }),
        Just(Part::Middle),
        Just(Part::Last),
    ]
}

/// A packet before it is signed.
#[derive(Clone, Debug)]
struct Unsigned {
    sid: u64,
    user: Vec<u8>,
    secret: Vec<u8>,
    part: Part,
    number: u64,
    piece: Vec<u8>,
    rider: Option<Rider>,
}

impl Unsigned {
    fn key(&self) -> Key {
        Key::new(&self.secret).unwrap()
    }

    fn emit(&self, buffer: &mut [u8]) -> Result<usize, Full> {
        let key = self.key();
        let seal = Seal { sid: self.sid, user: &self.user, key: &key };
        seal.emit_with(self.rider, self.part, self.number, &self.piece, buffer)
    }

    fn emit_shifted(&self, junk: [u8; 8], buffer: &mut [u8]) -> Result<usize, Full> {
        let key = self.key();
        let seal = Seal { sid: self.sid, user: &self.user, key: &key };
        seal.emit_shifted(self.part, self.number, &self.piece, junk, buffer)
    }
}

fn packet(longest_piece: usize) -> impl Strategy<Value = Unsigned> {
    (
        any::<u64>(),
        vec(any::<u8>(), 0..=MAX_USER_FIELD),
        vec(any::<u8>(), 1..100),
        part(),
        any::<u64>(),
        vec(any::<u8>(), 0..=longest_piece),
        rider(),
    )
        .prop_map(|(sid, user, secret, part, number, piece, rider)| Unsigned {
            sid,
            user,
            secret,
            part,
            number,
            piece,
            rider,
        })
}

fn rider() -> impl Strategy<Value = Option<Rider>> {
    let rider = |(next, held, loose)| Rider { ack: Ack { next, held }, loose };
    proptest::option::of(any::<(u64, u64, bool)>().prop_map(rider))
}

/// What `emit` writes. Asserts also that any smaller buffer is refused.
fn written(emit: impl Fn(&mut Writer<'_>) -> Result<(), Full>) -> Vec<u8> {
    let mut buffer = vec![0xee; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    emit(&mut out).unwrap();
    let bytes = out.written().to_vec();
    for short in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        if short < bytes.len() {
            assert_eq!(emit(&mut Writer::new(&mut buffer[..short])), Err(Full));
        }
    }
    bytes
}

/// `bytes` after a length field that says `len`.
fn counted(len: usize, bytes: &[u8]) -> Vec<u8> {
    [&(len as u32).to_be_bytes(), bytes].concat()
}

proptest! {
    #[test]
    fn every_request_decodes_to_itself(fields in fields()) {
        for request in fields.requests() {
            let body = written(|out| request.emit(out));
            prop_assert_eq!(Request::parse(request.op(), &body), Ok(request));
        }
    }

    #[test]
    fn every_answer_decodes_to_itself(fields in fields()) {
        for answer in fields.answers() {
            let body = written(|out| answer.emit(out));
            prop_assert_eq!(Answer::parse(answer.op(), &body), Ok(answer));
        }
    }

    #[test]
    fn bytes_after_a_message_and_the_values_of_its_padding_are_ignored(fields in fields(), more in vec(any::<u8>(), 1..9)) {
        let path = &fields.path;
        let mut body = written(|out| Request::Del { path }.emit(out));
        let end = 4 + path.len();
        body[end..].fill(0xff);
        body.extend_from_slice(&more);
        prop_assert_eq!(Request::parse(Op::Del, &body), Ok(Request::Del { path }));
    }

    #[test]
    fn a_truncated_message_is_refused(fields in fields(), cut in any::<Index>()) {
        for request in fields.requests().into_iter().filter(|request| request.op() != Op::NewSess) {
            let body = written(|out| request.emit(out));
            if !body.is_empty() {
                prop_assert_eq!(Request::parse(request.op(), &body[..cut.index(body.len())]), Err(Malformed::Truncated));
            }
        }
        for answer in fields.answers() {
            let body = written(|out| answer.emit(out));
            if !body.is_empty() {
                prop_assert_eq!(Answer::parse(answer.op(), &body[..cut.index(body.len())]), Err(Malformed::Truncated));
            }
        }
    }

    #[test]
    fn every_packet_decodes_to_itself_and_verifies(unsigned in packet(PIECE)) {
        let mut buffer = [0xee; MAX_PACKET];
        let len = unsigned.emit(&mut buffer).unwrap();
        let packet = Packet::parse(&buffer[..len]).unwrap();
        prop_assert_eq!(packet.verify(&unsigned.key()), Ok(()));
        prop_assert_eq!((packet.sid, packet.user), (unsigned.sid, &unsigned.user[..]));
        prop_assert_eq!((packet.part, packet.number), (unsigned.part, unsigned.number));
        prop_assert_eq!((packet.piece, packet.rider), (&unsigned.piece[..], unsigned.rider));
        prop_assert_eq!(unsigned.emit(&mut buffer[..len - 1]), Err(Full));
    }

    #[test]
    fn every_shifted_packet_decodes_to_itself_and_verifies_as_such_only(unsigned in packet(PIECE), junk: [u8; 8]) {
        let mut buffer = [0xee; MAX_PACKET];
        let len = unsigned.emit_shifted(junk, &mut buffer).unwrap();
        let packet = Packet::parse(&buffer[..len]).unwrap();
        prop_assert_eq!(packet.verify(&unsigned.key()), Err(Forged));
        prop_assert_eq!(packet.verify_shifted(&unsigned.key()), Ok(unsigned.number));
        prop_assert_eq!((packet.part, packet.piece), (unsigned.part, &unsigned.piece[..]));
        prop_assert_eq!(unsigned.emit_shifted(junk, &mut buffer[..len - 1]), Err(Full));
    }

    #[test]
    fn what_is_negotiated_decodes_to_itself_whatever_a_newer_peer_adds(
        fields in fields(),
        servers in vec(any::<SocketAddr>().prop_map(|to| SocketAddr::new(to.ip(), to.port())), 0..=MAX_ADDRESSES),
        more in vec(any::<u8>(), 0..40),
    ) {
        let after_result = |emit: &dyn Fn(&mut Writer<'_>) -> Result<(), Full>| {
            let result = Answer::Done { op: Op::NewSess, xid: 1, code: Code::Ok };
            let whole = written(|out| result.emit(out).and_then(|()| emit(out)));
            [whole, more.clone()].concat()
        };
        let hello = fields.hello();
        prop_assert_eq!(Hello::of(&[written(|out| hello.emit(out)), more.clone()].concat()), Some(hello));
        let welcome = fields.welcome(&servers);
        prop_assert_eq!(Welcome::of(&after_result(&|out| welcome.emit(out))), Some(welcome));
        let sequencer = fields.sequencer();
        let locked = after_result(&|out| sequencer.emit(out));
        prop_assert_eq!(Sequencer::of(&locked), Some(sequencer));
        let master = Master { epoch: fields.numbers[0], address: servers.first().copied() };
        let list = written(|out| emit_addresses(&servers, out));
        let told = [written(|out| master.emit(out)), list.clone(), more.clone()].concat();
        let servers: Addresses = servers.iter().copied().collect();
        prop_assert_eq!(Master::of(&told), Some((master, servers.clone())));
        prop_assert_eq!(Master::of(&written(|out| master.emit(out))), Some((master, Addresses::new())));
        let epoch = fields.numbers[0];
        let kept = after_result(&|out| out.u64(epoch).and_then(|()| out.raw(&list)));
        prop_assert_eq!(extended::alive(&kept), Some((epoch, servers)));
        prop_assert_eq!(extended::alive(&after_result(&|out| out.u64(epoch))).map(|alive| alive.0), Some(epoch));
    }

    #[test]
    fn more_addresses_than_are_kept_and_families_that_nobody_knows_do_no_harm(
        count in 0_u32..40,
        kinds in vec(0_u16..8, 40),
        bytes in vec(any::<u8>(), 0..400),
    ) {
        let mut body = [1_u64.to_be_bytes().to_vec(), count.to_be_bytes().to_vec()].concat();
        for (kind, piece) in kinds.iter().zip(bytes.chunks(20)) {
            body.extend_from_slice(&[&kind.to_be_bytes()[..], piece].concat());
        }
        if let Some(master) = Master::of(&body) {
            prop_assert_eq!(master.0.epoch, 1);
        }
    }

    #[test]
    fn no_flipped_bit_and_no_lost_byte_verifies(unsigned in packet(40)) {
        let mut buffer = [0; MAX_PACKET];
        let len = unsigned.emit(&mut buffer).unwrap();
        let key = unsigned.key();
        let verifies = |bytes: &[u8]| Packet::parse(bytes).is_ok_and(|packet| packet.verify(&key).is_ok());
        prop_assert!(verifies(&buffer[..len]));
        for bit in 0..len * 8 {
            buffer[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verifies(&buffer[..len]), "bit {bit}");
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..len {
            prop_assert!(!verifies(&buffer[..cut]), "cut at {cut}");
        }
    }

    #[test]
    fn another_key_does_not_verify(unsigned in packet(40), other in vec(1_u8.., 1..64)) {
        // HMAC fills short keys up with zeros: two keys that differ only in zeros at their ends are the same key.
        let secret = unsigned.secret.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        prop_assume!(unsigned.secret[..secret] != other[..]);
        let mut buffer = [0; MAX_PACKET];
        let len = unsigned.emit(&mut buffer).unwrap();
        let packet = Packet::parse(&buffer[..len]).unwrap();
        prop_assert_eq!(packet.verify(&Key::new(&other).unwrap()), Err(Forged));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_verify(bytes in vec(any::<u8>(), 0..200), op in op()) {
        let key = Key::new(b"key").unwrap();
        // Beginning with the magic lets the bytes get further.
        let magic = cldc_core::wire::packet::MAGIC.to_be_bytes();
        for datagram in [bytes.clone(), [&magic[..], &bytes[..]].concat()] {
            if let Ok(packet) = Packet::parse(&datagram) {
                prop_assert_eq!(packet.verify(&key), Err(Forged));
                prop_assert_eq!(packet.verify_shifted(&key), Err(Forged));
            }
        }
        let _ = Request::parse(op, &bytes);
        let _ = Answer::parse(op, &bytes);
        let _ = answer::outcome(&bytes);
        let _ = (Hello::of(&bytes), Welcome::of(&bytes), Master::of(&bytes), Sequencer::of(&bytes));
        let _ = (EventDetail::of(&bytes), extended::alive(&bytes), extended::challenge(&bytes));
        if let Some((_, stands)) = extended::resumed(&bytes) {
            prop_assert!(stands.count() <= bytes.len());
        }
        prop_assert!(dirent::Names::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn a_directory_reads_back_and_a_name_without_room_leaves_it_whole(
        names in vec(vec(any::<u8>(), 0..=MAX_PATH), 0..20),
        room in 0_usize..6000,
    ) {
        let mut buffer = vec![0xee; room];
        let mut out = Writer::new(&mut buffer);
        let mut fitting = 0;
        for name in &names {
            let before = out.len();
            match dirent::emit(name, &mut out) {
                Ok(()) => prop_assert_eq!(out.len() - before, dirent::entry_len(name.len())),
                Err(Full) => break,
            }
            prop_assert_eq!(out.len() % 8, 0);
            fitting += 1;
        }
        let read: Vec<&[u8]> = dirent::Names::new(out.written()).map(Result::unwrap).collect();
        prop_assert_eq!(&read[..], &names[..fitting]);
        if let Some(next) = names.get(fitting) {
            prop_assert!(out.len() + dirent::entry_len(next.len()) > room);
        }
    }

    #[test]
    fn any_number_keeps_its_value_named_or_not(number: i32) {
        prop_assert_eq!(Op::from_wire(number).to_wire(), number);
        prop_assert_eq!(Code::from_wire(number).to_wire(), number);
    }
}

#[test]
fn pieces_of_every_size_end_where_the_footer_begins() {
    let mut buffer = [0xee; MAX_PACKET];
    let user = vec![b'u'; MAX_USER_FIELD];
    for part in
        [Part::Only { xid: 1, op: Op::Put }, Part::First { xid: 1, op: Op::Put }, Part::Middle, Part::Last]
    {
        for size in 0..=PIECE {
            let piece = vec![0x5a; size];
            let (user, secret) = (user.clone(), b"key".to_vec());
            let rider = Some(Rider { ack: Ack::default(), loose: false });
            let unsigned = Unsigned { sid: 1, user, secret, part, number: 2, piece, rider };
            let len = unsigned.emit(&mut buffer).unwrap();
            assert_eq!(Packet::parse(&buffer[..len]).unwrap().piece, &unsigned.piece);
        }
    }
}

#[test]
fn the_sizes_are_those_that_hail_has() {
    assert_eq!((MAX_USER_FIELD, MAX_PATH, MAX_PAYLOAD), (32, 256, 131_072));
    assert_eq!((PIECE, MAX_MESSAGE, FOOTER), (1024, 196_608, 28));
}

#[test]
fn files_of_exactly_one_piece_two_pieces_and_the_longest_and_one_byte_around_them_decode_to_themselves() {
    let (put, path) = (8 + 4, b"/f");
    for len in [PIECE - put, PIECE, 2 * PIECE - put, 2 * PIECE, MAX_PAYLOAD] {
        for len in [len - 1, len, len + 1] {
            let data = vec![0x5a; len];
            let request = Request::Put { fh: 1, data: &data };
            let answer = Answer::Contents { xid: 1, metadata: Metadata::default(), path, data: &data };
            if len > MAX_PAYLOAD {
                let mut buffer = vec![0; MAX_MESSAGE];
                assert_eq!(request.emit(&mut Writer::new(&mut buffer)), Err(Full));
                assert_eq!(answer.emit(&mut Writer::new(&mut buffer)), Err(Full));
                continue;
            }
            assert_eq!(Request::parse(Op::Put, &written(|out| request.emit(out))), Ok(request));
            assert_eq!(Answer::parse(Op::Get, &written(|out| answer.emit(out))), Ok(answer));
        }
    }
}

#[test]
fn names_of_the_longest_length_are_carried_and_longer_ones_refused() {
    let longest = vec![b'n'; MAX_PATH];
    let request = Request::Del { path: &longest };
    assert_eq!(Request::parse(Op::Del, &written(|out| request.emit(out))), Ok(request));

    let longer = vec![b'n'; MAX_PATH + 4];
    assert_eq!(Request::Del { path: &longer }.emit(&mut Writer::new(&mut [0; 512])), Err(Full));
    let path = counted(MAX_PATH + 1, &longer);
    assert_eq!(Request::parse(Op::Del, &path), Err(Malformed::TooLong));
    assert_eq!(Request::parse(Op::Open, &[&[0; 8], &path[..]].concat()), Err(Malformed::TooLong));
    assert_eq!(Answer::parse(Op::Get, &[&[0; 48], &path[..]].concat()), Err(Malformed::TooLong));

    let user = vec![b'u'; MAX_USER_FIELD + 1];
    let unsigned =
        Unsigned { sid: 1, user, secret: vec![1], part: Part::Middle, number: 1, piece: vec![], rider: None };
    assert_eq!(unsigned.emit(&mut [0; 512]), Err(Full));
}

#[test]
fn names_end_where_their_length_says_with_or_without_a_nul() {
    for name in [&b"abcd"[..], b"abc\0", b"\0", b"a\0b"] {
        let request = Request::Del { path: name };
        assert_eq!(Request::parse(Op::Del, &written(|out| request.emit(out))), Ok(request));
    }
}

#[test]
fn a_datagram_shorter_than_a_footer_is_refused() {
    for len in 0..FOOTER {
        assert_eq!(Packet::parse(&vec![0xff; len]), Err(Malformed::Truncated));
    }
}

#[test]
fn a_length_field_larger_than_the_datagram_is_refused() {
    let mut buffer = [0; MAX_PACKET];
    let unsigned = Unsigned {
        sid: 1,
        user: b"u".to_vec(),
        secret: vec![1],
        part: Part::Last,
        number: 1,
        piece: vec![],
        rider: None,
    };
    let len = unsigned.emit(&mut buffer).unwrap();
    let user_len = 16..20;
    for (said, why) in [
        (5, Malformed::Truncated),
        (9, Malformed::Truncated),
        (MAX_USER_FIELD as u32, Malformed::Truncated),
        (MAX_USER_FIELD as u32 + 1, Malformed::TooLong),
        (u32::MAX, Malformed::TooLong),
    ] {
        buffer[user_len.clone()].copy_from_slice(&said.to_be_bytes());
        assert_eq!(Packet::parse(&buffer[..len]), Err(why), "{said}");
    }
    for (said, why) in
        [(9, Malformed::Truncated), (MAX_PAYLOAD, Malformed::Truncated), (usize::MAX, Malformed::TooLong)]
    {
        let body = [&[0; 8], &counted(said, b"12345678")[..]].concat();
        assert_eq!(Request::parse(Op::Put, &body), Err(why), "{said}");
    }
}

#[test]
fn an_empty_key_neither_signs_nor_verifies() {
    assert!(Key::new(b"").is_err());
}

#[test]
fn operations_that_a_side_does_not_send_are_refused() {
    for op in
        [Op::Ack, Op::Ping, Op::NotMaster, Op::Event, Op::AckFrag, Op::Unknown(5), Op::Unknown(i32::MIN)]
    {
        assert_eq!(Request::parse(op, &[0; 64]), Err(Malformed::Op), "{op:?}");
    }
    for op in [Op::Unknown(5), Op::Unknown(i32::MIN)] {
        assert_eq!(Answer::parse(op, &[0; 64]), Err(Malformed::Op), "{op:?}");
    }
}

#[test]
fn the_padding_is_what_a_multiple_of_four_lacks() {
    for (len, pad) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (usize::MAX, 1)] {
        assert_eq!(xdr::pad(len), pad);
    }
    for (len, entry) in [(0, 8), (1, 8), (6, 8), (7, 16), (14, 16), (15, 24), (usize::MAX, usize::MAX - 7)] {
        assert_eq!(dirent::entry_len(len), entry);
    }
}
