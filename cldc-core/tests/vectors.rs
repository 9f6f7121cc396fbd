//! Walks the packets that were captured between Hail's own client and server (protocol.md, at its end): each must
//! decode, verify, agree with what the capture says of it, and encode again to the same bytes.
//!
//! The folder is named by the environment variable `CLD_VECTORS`; by default it is `../shared/vectors`, seen from the
//! workspace root. Where it is not, as in a user's clone, nothing is walked; `golden.rs` does not need it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panic")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use cldc_core::wire::limits::{FOOTER, MAC, MAX_MESSAGE};
use cldc_core::wire::{Answer, Forged, Key, Malformed, Op, Packet, Part, Request, Seal, Writer};
use common::{hex, unhex};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Direction {
    C2s,
    S2c,
}

/// One line of a capture.
#[derive(Deserialize)]
struct Captured {
    dir: Direction,
    flow: String,
    hex: String,
    key: String,
    decoded: Value,
    #[serde(default)]
    expect_bad_hmac: bool,
    #[serde(default)]
    garbage: bool,
}

/// What was checked.
#[derive(Debug, Default)]
struct Count {
    files: usize,
    packets: usize,
    standard: usize,
    shifted: usize,
    forged: usize,
    garbage: usize,
    messages: usize,
    malformed: usize,
    reassembled: usize,
}

/// A message of which the last piece has not come yet.
struct Unfinished {
    op: Op,
    next: u64,
    body: Vec<u8>,
}

/// The messages being put together, one for each flow and direction.
type Reassembly = BTreeMap<(String, Direction), Unfinished>;

#[test]
fn captured_packets_decode_verify_and_encode_again() {
    let folder = std::env::var_os("CLD_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    // Not `println!`: it would be shown only if the test failed.
    let mut report = std::io::stderr();
    if !folder.is_dir() {
        writeln!(report, "vectors: skipped, as there is no folder {}", folder.display()).unwrap();
        return;
    }
    let mut count = Count::default();
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    for file in files {
        count.files += 1;
        let capture: Vec<Captured> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let mut reassembly = Reassembly::new();
        for (index, captured) in capture.iter().enumerate() {
            let place = format!("{} packet {index}", file.display());
            count.packets += 1;
            check(captured, &place, &mut reassembly, &mut count);
        }
    }
    writeln!(report, "vectors: {count:?}").unwrap();
    assert!(count.packets > 0, "no packets in {}", folder.display());
}

fn check(captured: &Captured, place: &str, reassembly: &mut Reassembly, count: &mut Count) {
    let datagram = unhex(&captured.hex);
    if captured.garbage {
        assert!(Packet::parse(&datagram).is_err(), "{place}: garbage was accepted");
        count.garbage += 1;
        return;
    }
    let packet = Packet::parse(&datagram).unwrap_or_else(|why| panic!("{place}: {why:?}"));
    let said = &captured.decoded;
    check_header(&packet, &datagram, said, place);
    let key = key(&captured.key);
    if captured.expect_bad_hmac {
        assert_eq!(packet.verify(&key), Err(Forged), "{place}");
        assert_eq!(packet.verify_shifted(&key), Err(Forged), "{place}");
        assert_eq!(said["seqid"], number(packet.number), "{place}");
        count.forged += 1;
        return;
    }
    check_footer(&packet, &key, &datagram, said, place, count);
    if let Some((op, body)) = reassemble(&packet, captured, reassembly, count) {
        count.messages += 1;
        // The last of several pieces carries what the whole message says, if the capture could tell.
        let message = if packet.part.is_first() { said.get("msg") } else { said["msg"].get("message") };
        check_message(captured.dir, op, &body, message, place, count);
    }
}

/// The key that signed a capture. One was signed with the empty key on purpose, which `Key` refuses; HMAC fills keys
/// up with zeros, so that a zero byte gives the same signatures.
fn key(secret: &str) -> Key {
    Key::new(secret.as_bytes()).or_else(|_| Key::new(&[0])).unwrap()
}

fn check_header(packet: &Packet<'_>, datagram: &[u8], said: &Value, place: &str) {
    let (order, first) = match packet.part {
        Part::Only { xid, op } => ("FIRST_LAST", Some((xid, op))),
        Part::First { xid, op } => ("FIRST", Some((xid, op))),
        Part::Middle => ("MID", None),
        Part::Last => ("LAST", None),
    };
    assert_eq!(said["order"], order, "{place}");
    assert_eq!(said.get("xid"), first.map(|(xid, _)| number(xid)).as_ref(), "{place}");
    assert_eq!(said.get("op"), first.map(|(_, op)| json!(op.name())).as_ref(), "{place}");
    assert_eq!(said["sid"], number(packet.sid), "{place}");
    assert_eq!(said["user"], std::str::from_utf8(packet.user).unwrap(), "{place}");
    assert_eq!(said["hdr_len"], datagram.len() - FOOTER - packet.piece.len(), "{place}");
}

/// Verifies the packet and makes it again from what was decoded.
fn check_footer(
    packet: &Packet<'_>,
    key: &Key,
    datagram: &[u8],
    said: &Value,
    place: &str,
    count: &mut Count,
) {
    let seal = Seal { sid: packet.sid, user: packet.user, key };
    let mut buffer = [0; 4096];
    let len = match said["footer"].as_str() {
        Some("std") => {
            count.standard += 1;
            assert_eq!(packet.verify(key), Ok(()), "{place}");
            assert_eq!(packet.verify_shifted(key), Err(Forged), "{place}");
            assert_eq!(said["seqid"], number(packet.number), "{place}");
            assert_eq!(said["sha"], hex(&datagram[datagram.len() - MAC..]), "{place}");
            seal.emit(packet.part, packet.number, packet.piece, &mut buffer)
        }
        Some("shifted") => {
            count.shifted += 1;
            assert_eq!(packet.verify(key), Err(Forged), "{place}");
            let seqid = packet.verify_shifted(key).unwrap_or_else(|why| panic!("{place}: {why:?}"));
            assert_eq!(said["seqid"], number(seqid), "{place}");
            assert_eq!(said["sha"], hex(&datagram[datagram.len() - 12..]), "{place}");
            let junk = unhex(said["junk"].as_str().unwrap()).try_into().unwrap();
            seal.emit_shifted(packet.part, seqid, packet.piece, junk, &mut buffer)
        }
        other => panic!("{place}: unknown footer {other:?}"),
    };
    assert_eq!(hex(&buffer[..len.unwrap()]), hex(datagram), "{place}");
}

/// The message that this packet completes, with its operation. A piece is taken only if it is the next one.
fn reassemble(
    packet: &Packet<'_>,
    captured: &Captured,
    reassembly: &mut Reassembly,
    count: &mut Count,
) -> Option<(Op, Vec<u8>)> {
    let place = (captured.flow.clone(), captured.dir);
    match packet.part {
        Part::Only { op, .. } => return Some((op, packet.piece.to_vec())),
        Part::First { op, .. } => {
            let next = packet.number.wrapping_add(1);
            reassembly.insert(place, Unfinished { op, next, body: packet.piece.to_vec() });
            return None;
        }
        Part::Middle | Part::Last => {}
    }
    let unfinished = reassembly.get_mut(&place).filter(|unfinished| unfinished.next == packet.number)?;
    unfinished.next = unfinished.next.wrapping_add(1);
    unfinished.body.extend_from_slice(packet.piece);
    if !packet.part.is_last() {
        return None;
    }
    count.reassembled += 1;
    reassembly.remove(&place).map(|finished| (finished.op, finished.body))
}

/// Decodes the message, compares it with what the capture says, and encodes it again.
fn check_message(
    direction: Direction,
    op: Op,
    body: &[u8],
    said: Option<&Value>,
    place: &str,
    count: &mut Count,
) {
    let malformed = said.and_then(|said| said.get("malformed")).and_then(Value::as_str);
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut out = Writer::new(&mut buffer);
    let decoded = match direction {
        Direction::C2s if op == Op::Ack => {
            assert!(body.is_empty(), "{place}: an ACK has no body");
            json!({})
        }
        Direction::C2s => {
            let request = Request::parse(op, body);
            if malformed.is_some_and(|what| what.starts_with("counted field")) {
                count.malformed += 1;
                assert_eq!(request, Err(Malformed::TooLong), "{place}");
                return;
            }
            let request = request.unwrap_or_else(|why| panic!("{place}: {why:?}"));
            assert_eq!(request.op(), op, "{place}");
            request.emit(&mut out).unwrap();
            request_json(&request)
        }
        Direction::S2c => {
            let answer = Answer::parse(op, body).unwrap_or_else(|why| panic!("{place}: {why:?}"));
            assert_eq!(answer.op(), op, "{place}");
            answer.emit(&mut out).unwrap();
            answer_json(&answer)
        }
    };
    assert_eq!(hex(out.written()), hex(body), "{place}");
    match said {
        // To Hail these bytes trail an empty message; to us they are where extensions are negotiated.
        Some(_) if malformed == Some("8 trailing bytes") => {
            assert_eq!(decoded["extension"], hex(body), "{place}")
        }
        Some(said) => assert_eq!(&decoded, said, "{place}"),
        None => {}
    }
}

fn request_json(request: &Request<'_>) -> Value {
    match *request {
        Request::NewSess { extension: &[] } | Request::Nop | Request::EndSess => json!({}),
        Request::NewSess { extension } => json!({ "extension": hex(extension) }),
        Request::Open { mode, events, path } => {
            json!({ "mode": mode.0, "events": events.0, "inode_name": text(path) })
        }
        Request::GetMeta { fh } | Request::Get { fh } | Request::Close { fh } | Request::Unlock { fh } => {
            json!({ "fh": fh })
        }
        Request::Put { fh, data } => json!({ "fh": fh, "data": hex(data) }),
        Request::Del { path } => json!({ "inode_name": text(path) }),
        Request::Lock { fh, flags, .. } => json!({ "fh": fh, "flags": flags.0 }),
        _ => panic!("a request that Hail does not have: {request:?}"),
    }
}

fn answer_json(answer: &Answer<'_>) -> Value {
    match *answer {
        Answer::Done { xid, code, .. } => {
            json!({ "code": code.to_wire(), "err": code.name(), "xid_in": number(xid) })
        }
        Answer::Opened { xid, fh } => json!({ "code": 0, "err": "OK", "xid_in": number(xid), "fh": fh }),
        Answer::Contents { xid, metadata, path, data } => json!({
            "code": 0, "err": "OK", "xid_in": number(xid),
            "inum": metadata.inode, "vers": metadata.version,
            "time_create": metadata.created, "time_modify": metadata.modified, "flags": metadata.flags.0,
            "inode_name": text(path), "data": hex(data),
        }),
        Answer::Event { fh, events } => json!({ "fh": fh, "events": events.0 }),
        Answer::Ping | Answer::NotMaster => json!({}),
        Answer::AckFrag { number: acknowledged } => json!({ "seqid": number(acknowledged) }),
        _ => panic!("an answer that Hail does not have: {answer:?}"),
    }
}

/// A 64-bit number as the captures write it.
fn number(value: u64) -> Value {
    json!(format!("{value:#018x}"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
