//! The packets captured between Hail's client and server, and their replay against a live server.
//!
//! The folder is named by the environment variable `CLD_VECTORS`; by default it is `../shared/vectors`, seen from the
//! workspace. A user's clone has no such folder: the tests say then that they were skipped.

mod deviations;
mod replay;
mod script;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use deviations::{Deviation, Edit, deviations_of};
pub use replay::{Replay, replay};
pub use script::{Expectation, Kind, Script, Sending, Step};

use crate::programs::workspace;

#[cfg(test)]
mod model;

/// One captured datagram.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whether the client sent it.
    pub from_client: bool,
    /// The name of the client.
    pub flow: String,
    /// The bytes.
    pub datagram: Vec<u8>,
    /// The key that it is, or should be, signed with.
    pub key: Vec<u8>,
    /// The capturing proxy threw it away.
    pub dropped: bool,
    /// The capturing proxy sent it twice.
    pub duplicated: bool,
    /// It is known not to verify.
    pub bad_hmac: bool,
    /// It is no packet.
    pub garbage: bool,
    /// The packet in its parts, as another decoder saw it.
    pub decoded: Value,
}

/// One captured scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending, such as `11_lock`.
    pub name: String,
    /// Its datagrams in the order of time.
    pub records: Vec<Record>,
}

/// The folder of the captures. None, after saying so, if this machine has none.
///
/// # Panics
/// When `CLD_VECTORS` names something that is no folder.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CLD_VECTORS") {
        let folder = PathBuf::from(named);
        assert!(folder.is_dir(), "CLD_VECTORS names {}, which is no folder", folder.display());
        return Some(folder);
    }
    // A worktree lies deeper than the main one: the nearest `shared/vectors` above is meant.
    let found =
        workspace().ancestors().map(|above| above.join("shared/vectors")).find(|folder| folder.is_dir());
    if found.is_none() {
        println!("skipped: no captured packets here (CLD_VECTORS names their folder)");
    }
    found
}

/// All scenarios, by name; none if this machine has no captures.
///
/// # Panics
/// When a file is not as `protocol.md` 16 says.
#[must_use]
pub fn load_all() -> Vec<Scenario> {
    let Some(folder) = folder() else { return Vec::new() };
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    paths.iter().map(|path| load(path)).collect()
}

/// One scenario by its name; none if this machine has no captures.
///
/// # Panics
/// When there is no such scenario, or its file is not as `protocol.md` 16 says.
#[must_use]
pub fn load_one(name: &str) -> Option<Scenario> {
    Some(load(&folder()?.join(name).with_extension("json")))
}

fn load(path: &Path) -> Scenario {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let records = (list.into_iter().enumerate())
        .map(|(i, value)| {
            record(&value).unwrap_or_else(|| panic!("{name}, record {i} is not as expected: {value}"))
        })
        .collect();
    Scenario { name, records }
}

fn record(value: &Value) -> Option<Record> {
    let mark = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    Some(Record {
        from_client: match value.get("dir")?.as_str()? {
            "c2s" => true,
            "s2c" => false,
            _ => return None,
        },
        flow: value.get("flow")?.as_str()?.to_owned(),
        datagram: bytes_of_hex(value.get("hex")?.as_str()?)?,
        key: value.get("key").and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec(),
        dropped: mark("dropped_by_proxy"),
        duplicated: mark("duplicated_by_proxy"),
        bad_hmac: mark("expect_bad_hmac"),
        garbage: mark("garbage"),
        decoded: value.get("decoded")?.clone(),
    })
}

fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raw::codes::op;
    use crate::raw::{Answer, Footer, Head, Malformed, Packet, Request};

    fn number(value: &Value) -> u64 {
        u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    /// The parts that the other decoder saw must be ours.
    fn check_header(packet: &Packet, decoded: &Value) {
        assert_eq!(packet.sid, number(&decoded["sid"]));
        assert_eq!(packet.user, decoded["user"].as_str().unwrap().as_bytes());
        let order = match (packet.head, packet.last) {
            (Some(_), true) => "FIRST_LAST",
            (Some(_), false) => "FIRST",
            (None, false) => "MID",
            (None, true) => "LAST",
        };
        assert_eq!(decoded["order"], order);
        if let Some(Head { xid, op }) = packet.head {
            assert_eq!((xid, decoded["op"].as_str()), (number(&decoded["xid"]), Some(op::name(op))));
        }
    }

    fn check_request(op: i32, body: &[u8], seen: &Value) {
        match Request::decode(op, body) {
            Ok(request) => {
                assert_eq!(request.encode(), body);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let expected = match request {
                    Request::Open { mode, events, path } => {
                        assert_eq!(
                            (seen["mode"].as_u64(), seen["inode_name"].as_str()),
                            (Some(mode.into()), Some(&*text(&path)))
                        );
                        assert_eq!(seen["events"], events);
                        return;
                    }
                    Request::Del { path } => return assert_eq!(seen["inode_name"], text(&path)),
                    Request::Put { fh, data } => {
                        assert_eq!(bytes_of_hex(seen["data"].as_str().unwrap()).unwrap(), data);
                        fh
                    }
                    Request::Lock { fh, flags } | Request::TryLock { fh, flags } => {
                        assert_eq!(seen["flags"], flags);
                        fh
                    }
                    Request::Get { fh }
                    | Request::GetMeta { fh }
                    | Request::Close { fh }
                    | Request::Unlock { fh } => fh,
                    Request::Nop | Request::NewSess | Request::EndSess | Request::Ack => return,
                };
                assert_eq!(seen["fh"], expected);
            }
            Err(error) => {
                let seen = seen["malformed"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{error}, but the other decoder took it"));
                match error {
                    Malformed::TooLong { length, limit } => {
                        assert!(seen.contains(&format!("{length} > max {limit}")))
                    }
                    Malformed::Trailing(count) => assert!(seen.contains(&format!("{count} trailing"))),
                    other => panic!("{other}; the other decoder: {seen}"),
                }
            }
        }
    }

    fn check_answer(op: i32, body: &[u8], seen: &Value) {
        let answer = Answer::decode(op, body).unwrap();
        assert_eq!(answer.encode(), body);
        if let Some((xid, code)) = answer.result() {
            assert_eq!((number(&seen["xid_in"]), seen["code"].as_i64()), (xid, Some(code.into())));
        }
        match answer {
            Answer::Opened { fh, .. } => assert_eq!(seen["fh"], fh),
            Answer::Event { fh, events } => {
                assert_eq!((seen["fh"].as_u64(), seen["events"].as_u64()), (Some(fh), Some(events.into())));
            }
            Answer::AckFrag { number: of } => assert_eq!(number(&seen["seqid"]), of),
            Answer::Contents { node, .. } => {
                assert_eq!((&seen["inum"], &seen["vers"]), (&node.inum.into(), &node.version.into()));
                assert_eq!(
                    (&seen["time_create"], &seen["time_modify"]),
                    (&node.time_create.into(), &node.time_modify.into())
                );
                assert_eq!(
                    (&seen["flags"], seen["inode_name"].as_str().unwrap().as_bytes()),
                    (&node.flags.into(), &node.name[..])
                );
                if let Some(data) = seen["data"].as_str() {
                    assert_eq!(bytes_of_hex(data).unwrap(), node.data);
                }
            }
            Answer::Result { .. } | Answer::Ping | Answer::NotMaster => {}
        }
    }

    #[test]
    fn every_captured_packet_decodes_verifies_and_encodes_again() {
        let scenarios = load_all();
        let mut counts = BTreeMap::<&str, usize>::new();
        for (scenario, record) in
            scenarios.iter().flat_map(|s| s.records.iter().map(move |record| (s, record)))
        {
            let parsed = Packet::open(&record.datagram, &record.key);
            if record.garbage {
                assert!(parsed.is_err(), "{}", scenario.name);
                *counts.entry("garbage").or_default() += 1;
                continue;
            }
            let (packet, footer) = parsed.unwrap();
            check_header(&packet, &record.decoded);
            let (kind, again) = match footer {
                Footer::Standard => ("std", packet.encode(&record.key)),
                Footer::Shifted(junk) => ("shifted", packet.encode_shifted(&record.key, junk)),
                Footer::Bad => {
                    assert!(record.bad_hmac);
                    let signed = record.datagram.len() - 20;
                    assert_eq!(packet.encode(&record.key)[..signed], record.datagram[..signed]);
                    *counts.entry("bad").or_default() += 1;
                    continue;
                }
            };
            assert!(!record.bad_hmac, "{}: {packet}", scenario.name);
            assert_eq!(record.decoded["footer"], kind, "{}: {packet}", scenario.name);
            assert_eq!(number(&record.decoded["seqid"]), packet.number);
            assert_eq!(again, record.datagram, "{}: {packet}", scenario.name);
            *counts.entry(kind).or_default() += 1;
            match packet.head {
                Some(Head { op, .. }) if packet.last => match record.from_client {
                    true => check_request(op, &packet.body, &record.decoded["msg"]),
                    false => check_answer(op, &packet.body, &record.decoded["msg"]),
                },
                _ => *counts.entry("fragments").or_default() += 1,
            }
        }
        println!("{counts:?}");
        let all: usize = scenarios.iter().map(|scenario| scenario.records.len()).sum();
        let checked: usize =
            counts.iter().filter(|(kind, _)| **kind != "fragments").map(|(_, count)| count).sum();
        assert_eq!(checked, all);
    }
}
