//! What the servers of a cell tell each other, and how it is written.
//!
//! One message is `version u8, kind u8, to u64, term u64` and the fields of its kind, big-endian. Entries follow each
//! other, so only the first one's place is written. Who sent a message is known from the link that it came by.

use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{Entry, EntryType, Message as RaftMessage, MessageType, Snapshot};

use super::tail::conf_state;
use crate::codec::{CodecError, Reader, Writer};
use crate::storage::{Configuration, LogPosition, MAX_ENTRY_SIZE, SnapshotPoint, SnapshotRecord};

/// The version that this program reads and writes.
pub const MESSAGE_VERSION: u8 = 1;

/// The most bytes that the entries of one message should have; one entry is always taken.
pub(super) const MAX_ENTRIES_SIZE: u64 = 1 << 20;

/// No encoded message is longer, in bytes.
pub const MAX_MESSAGE_SIZE: usize = 4 << 20;

/// The smallest entry: term, kind, length.
const MIN_ENTRY_SIZE: usize = 13;
const MAX_ENTRIES: usize = MAX_MESSAGE_SIZE / MIN_ENTRY_SIZE;
/// The largest term or index: far more than any cell reaches, and sums with it do not overflow.
const MAX_NUMBER: u64 = u64::MAX / 4;
/// A heartbeat carries the number of a round of reads, or nothing.
const MAX_CONTEXT: usize = 8;

/// A message from one engine to another. Opaque to the node, which carries it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub(super) raft: RaftMessage,
    /// What a snapshot message refers to.
    pub(super) snapshot: Option<SnapshotRecord>,
}

impl Eq for Message {}

impl Message {
    /// The server that it is for.
    #[must_use]
    pub fn to(&self) -> u64 {
        self.raft.to
    }

    /// The file that must be streamed before this message, if there is one: see
    /// [`Output::SendSnapshot`](super::Output::SendSnapshot).
    #[must_use]
    pub fn snapshot(&self) -> Option<&SnapshotRecord> {
        self.snapshot.as_ref()
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let m = &self.raft;
        let mut out = Writer::new();
        out.u8(MESSAGE_VERSION);
        out.u8(Kind::of(m.msg_type).map_or(0, |kind| kind as u8));
        out.u64(m.to);
        out.u64(m.term);
        match Kind::of(m.msg_type) {
            Some(Kind::Append) => {
                [m.log_term, m.index, m.commit].into_iter().for_each(|field| out.u64(field));
                out.count(m.entries.len());
                for entry in m.entries.iter() {
                    out.u64(entry.term);
                    out.bool(is_configuration(entry));
                    out.bytes(payload(entry));
                }
            }
            Some(Kind::AppendReply) => {
                [m.log_term, m.index, m.commit, m.reject_hint].into_iter().for_each(|field| out.u64(field));
                out.bool(m.reject);
            }
            Some(Kind::Vote | Kind::PreVote) => {
                [m.log_term, m.index, m.commit, m.commit_term].into_iter().for_each(|field| out.u64(field));
                out.bool(is_forced(m));
            }
            Some(Kind::VoteReply | Kind::PreVoteReply) => {
                [m.commit, m.commit_term].into_iter().for_each(|field| out.u64(field));
                out.bool(m.reject);
            }
            Some(Kind::Heartbeat | Kind::HeartbeatReply) => {
                out.u64(m.commit);
                out.bytes(&m.context);
            }
            Some(Kind::Snapshot) => {
                self.snapshot.iter().for_each(|record| write_record(record, &mut out));
            }
            Some(Kind::TimeoutNow) | None => {}
        }
        out.into_vec()
    }

    /// The message that was written as these bytes, of which there should be at most [`MAX_MESSAGE_SIZE`].
    ///
    /// # Errors
    /// See [`CodecError`]; a message of another version of the program is named as such.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > MAX_MESSAGE_SIZE {
            return Err(CodecError::TooLong { length: bytes.len(), limit: MAX_MESSAGE_SIZE });
        }
        let mut input = Reader::new(bytes);
        let version = input.u8()?;
        if version != MESSAGE_VERSION {
            let what = "message of another server";
            return Err(CodecError::Version { what, found: version, known: MESSAGE_VERSION });
        }
        let kind = Kind::read(&mut input)?;
        let mut m = RaftMessage { to: input.u64()?, term: number(&mut input)?, ..RaftMessage::default() };
        m.set_msg_type(kind.msg_type());
        let mut snapshot = None;
        match kind {
            Kind::Append => {
                m.log_term = number(&mut input)?;
                m.index = number(&mut input)?;
                m.commit = number(&mut input)?;
                let count = input.count(MAX_ENTRIES, MIN_ENTRY_SIZE)?;
                let mut entries = Vec::with_capacity(count);
                for place in 1..=count as u64 {
                    entries.push(read_entry(m.index + place, &mut input)?);
                }
                m.set_entries(entries.into());
            }
            Kind::AppendReply => {
                m.log_term = number(&mut input)?;
                m.index = number(&mut input)?;
                m.commit = number(&mut input)?;
                m.reject_hint = number(&mut input)?;
                m.reject = input.bool()?;
            }
            Kind::Vote | Kind::PreVote => {
                m.log_term = number(&mut input)?;
                m.index = number(&mut input)?;
                m.commit = number(&mut input)?;
                m.commit_term = number(&mut input)?;
                if input.bool()? {
                    m.context = CAMPAIGN_TRANSFER.into();
                }
            }
            Kind::VoteReply | Kind::PreVoteReply => {
                m.commit = number(&mut input)?;
                m.commit_term = number(&mut input)?;
                m.reject = input.bool()?;
            }
            Kind::Heartbeat | Kind::HeartbeatReply => {
                m.commit = number(&mut input)?;
                m.context = input.bytes(MAX_CONTEXT)?.to_vec().into();
            }
            Kind::Snapshot => {
                let record = read_record(&mut input)?;
                m.set_snapshot(to_snapshot(&record));
                snapshot = Some(record);
            }
            Kind::TimeoutNow => {}
        }
        input.finish()?;
        Ok(Self { raft: m, snapshot })
    }

    /// What the engine wants sent; `None` for what does not leave a server.
    pub(super) fn from_raft(raft: RaftMessage) -> Option<Self> {
        let snapshot = match Kind::of(raft.msg_type)? {
            Kind::Snapshot => Some(from_snapshot(raft.get_snapshot())?),
            _ => None,
        };
        Some(Self { raft, snapshot })
    }
}

/// The kinds of messages, by their number in the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Append = 1,
    AppendReply = 2,
    Heartbeat = 3,
    HeartbeatReply = 4,
    PreVote = 5,
    PreVoteReply = 6,
    Vote = 7,
    VoteReply = 8,
    Snapshot = 9,
    TimeoutNow = 10,
}

/// Each kind and the engine's name for it.
const KINDS: [(Kind, MessageType); 10] = [
    (Kind::Append, MessageType::MsgAppend),
    (Kind::AppendReply, MessageType::MsgAppendResponse),
    (Kind::Heartbeat, MessageType::MsgHeartbeat),
    (Kind::HeartbeatReply, MessageType::MsgHeartbeatResponse),
    (Kind::PreVote, MessageType::MsgRequestPreVote),
    (Kind::PreVoteReply, MessageType::MsgRequestPreVoteResponse),
    (Kind::Vote, MessageType::MsgRequestVote),
    (Kind::VoteReply, MessageType::MsgRequestVoteResponse),
    (Kind::Snapshot, MessageType::MsgSnapshot),
    (Kind::TimeoutNow, MessageType::MsgTimeoutNow),
];

impl Kind {
    fn of(msg_type: MessageType) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == msg_type).map(|(kind, _)| *kind)
    }

    fn msg_type(self) -> MessageType {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or(MessageType::MsgHup, |(_, msg_type)| *msg_type)
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, CodecError> {
        let value = input.u8()?;
        let known = KINDS.iter().find(|(kind, _)| *kind as u8 == value);
        known
            .map(|(kind, _)| *kind)
            .ok_or(CodecError::Invalid { what: "kind of message", value: value.into() })
    }
}

/// Whether it asks for votes because the master hands over, which overrides what the master before was promised.
pub(super) fn is_forced(m: &RaftMessage) -> bool {
    m.context.as_ref() == CAMPAIGN_TRANSFER
}

pub(super) fn is_configuration(entry: &Entry) -> bool {
    entry.entry_type != EntryType::EntryNormal
}

/// What an entry holds for us. The engine's own form of a change of members is needed only when it is proposed.
pub(super) fn payload(entry: &Entry) -> &[u8] {
    if is_configuration(entry) { &entry.context } else { &entry.data }
}

/// An entry with this payload, as the engine keeps it.
pub(super) fn to_entry(at: LogPosition, configuration: bool, payload: Vec<u8>) -> Entry {
    let mut entry = Entry { index: at.index, term: at.term, ..Entry::default() };
    if configuration {
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.context = payload.into();
    } else {
        entry.data = payload.into();
    }
    entry
}

fn read_entry(index: u64, input: &mut Reader<'_>) -> Result<Entry, CodecError> {
    let term = number(input)?;
    let configuration = input.bool()?;
    let payload = input.bytes(MAX_ENTRY_SIZE)?.to_vec();
    Ok(to_entry(LogPosition { index, term }, configuration, payload))
}

fn number(input: &mut Reader<'_>) -> Result<u64, CodecError> {
    let value = input.u64()?;
    if value > MAX_NUMBER {
        return Err(CodecError::Invalid { what: "term or index", value });
    }
    Ok(value)
}

fn write_record(record: &SnapshotRecord, out: &mut Writer) {
    out.u64(record.point.at.index);
    out.u64(record.point.at.term);
    record.point.configuration.write(out);
    out.u64(record.length);
    out.u32(record.checksum);
}

fn read_record(input: &mut Reader<'_>) -> Result<SnapshotRecord, CodecError> {
    let at = LogPosition { index: number(input)?, term: number(input)? };
    let point = SnapshotPoint { at, configuration: Configuration::read(input)? };
    Ok(SnapshotRecord { point, length: input.u64()?, checksum: input.u32()? })
}

/// The engine's form of a snapshot: a reference to the file.
pub(super) fn to_snapshot(record: &SnapshotRecord) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = record.point.at.index;
    metadata.term = record.point.at.term;
    metadata.set_conf_state(conf_state(&record.point.configuration));
    let mut data = Writer::new();
    write_record(record, &mut data);
    snapshot.data = data.into_vec().into();
    snapshot
}

/// `None` if it is not of our making, as the engine's empty snapshot.
pub(super) fn from_snapshot(snapshot: &Snapshot) -> Option<SnapshotRecord> {
    read_record(&mut Reader::new(&snapshot.data)).ok()
}
