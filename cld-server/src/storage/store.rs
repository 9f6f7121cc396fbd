//! The log on `redb`: one file; one transaction and one `fdatasync` for each call, and another when the file grows.
//!
//! Two tables. Every value is sealed with a CRC32C over its key and itself.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `identity` | format version u32, node u64, cell u128 |
//! | | `state` | term, vote, commit; index and term before the first entry; index and term of the last: each u64 |
//! | | `base` | index u64, term u64, configuration ([`super::Configuration`]); then of the snapshot file, if there is one: length u64, CRC32C u32 |
//! | `log` | index u64 | kind u8 (0: commands, 1: a change of the members), term u64, payload |
//!
//! The state names the first and the last entry, so entries that got lost at either end are noticed. After a crash in
//! the midst of a commit redb goes back to the commit before it. That is also what it does when the disk spoils the
//! very last commit after a crash: the two cannot be told apart. Any other damage is noticed when the store is opened.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use redb::{Database, ReadableTable, StorageBackend, Table, TableDefinition, WriteTransaction};

use super::configuration::MAX_MEMBERS;
use super::disk::DiskFile;
use super::log::{
    EntryKind, HardState, Identity, LogEntry, LogError, LogPosition, LogStore, LogWrite, MAX_ENTRY_SIZE,
    SnapshotFile, SnapshotPoint, SnapshotRecord,
};
use super::open::DirectoryLock;
use super::record::{Decoder, Encoder, seal, unseal};
use super::snapshot::Snapshots;

/// The name of the log's file.
pub(super) const LOG_NAME: &str = "log.redb";
/// The format that this version writes, and the only one that it reads.
pub(super) const FORMAT: u32 = 3;

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
pub(super) const IDENTITY: &str = "identity";
pub(super) const STATE: &str = "state";
pub(super) const BASE: &str = "base";

const COMMAND: u8 = 0;
const CONFIGURATION: u8 = 1;
/// The log is written and hardly read; a small cache holds the pages on its right edge.
const CACHE_SIZE: usize = 8 << 20;

/// The durable log of one server, on a data directory that it keeps locked.
#[derive(Debug)]
pub struct Store {
    pub(super) database: Database,
    pub(super) identity: Identity,
    pub(super) state: State,
    pub(super) base: Base,
    pub(super) snapshots: Snapshots,
    pub(super) path: PathBuf,
    /// Set while a transaction runs and left set when it fails.
    pub(super) failed: bool,
    /// Given up last.
    pub(super) _lock: Option<DirectoryLock>,
}

/// The `state` record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) hard_state: HardState,
    /// The position before the first entry.
    pub(super) start: LogPosition,
    /// The last entry, or `start` if there is none.
    pub(super) last: LogPosition,
}

/// The `base` record: where replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) point: SnapshotPoint,
    /// The snapshot file. A cell that has not made one yet begins with an empty database.
    pub(super) file: Option<SnapshotFile>,
}

impl Store {
    /// The snapshot files beside this log.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    fn transact(
        &mut self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Stopped);
        }
        self.failed = true;
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        };
        run().map_err(|source| LogError::Disk { file: self.path.clone(), source: Box::new(source) })?;
        self.failed = false;
        Ok(())
    }

    /// State and base after these writes, if they make sense in this log.
    fn after(&self, writes: &[LogWrite]) -> Result<(State, Base), LogError> {
        let mut state = self.state;
        let mut base = self.base.clone();
        for write in writes {
            if let Some(record) = &write.snapshot {
                let at = record.point.at;
                if at.index <= base.point.at.index || record.point.configuration.members.len() > MAX_MEMBERS {
                    return Err(LogError::Misuse(
                        "the snapshot is not newer than the last one, or has too many members",
                    ));
                }
                (state.start, state.last) = (at, at);
                base = Base { point: record.point.clone(), file: Some(record.file()) };
            }
            if let Some(first) = write.entries.first() {
                if first.at.index <= base.point.at.index || first.at.index > state.last.index + 1 {
                    return Err(LogError::Misuse(
                        "the entries do not follow the log, or replace what a snapshot holds",
                    ));
                }
                state.last = LogPosition { index: first.at.index - 1, term: first.at.term };
            }
            for entry in &write.entries {
                if entry.at.index != state.last.index + 1 || entry.at.term < state.last.term {
                    return Err(LogError::Misuse("the entries are not consecutive"));
                }
                if entry.payload.len() > MAX_ENTRY_SIZE {
                    return Err(LogError::Misuse("an entry is larger than the limit"));
                }
                state.last = entry.at;
            }
            state.hard_state = write.hard_state;
            if state.hard_state.commit > state.last.index || state.hard_state.term < state.last.term {
                return Err(LogError::Misuse("the hard state does not fit the entries"));
            }
        }
        // The engine's knowledge of the commit index may lag behind the snapshot.
        state.hard_state.commit = state.hard_state.commit.max(base.point.at.index);
        Ok((state, base))
    }

    /// Gives the snapshot file with which the log begins now its name. Should the machine go off before, it is done when
    /// the store is opened.
    fn adopt_snapshot(&mut self) -> Result<(), LogError> {
        let index = self.base.point.at.index;
        self.failed = true;
        let fail =
            |source| LogError::Disk { file: self.path.clone(), source: Box::new(redb::Error::Io(source)) };
        self.snapshots.adopt(index).map_err(fail)?;
        self.failed = false;
        // What cannot be removed now is removed when the store is opened next.
        let _ = self.snapshots.remove_before(index);
        Ok(())
    }
}

impl LogStore for Store {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn append(&mut self, writes: &[LogWrite]) -> Result<(), LogError> {
        let (state, base) = self.after(writes)?;
        let installs = base != self.base;
        if installs {
            let index = base.point.at.index;
            let fail = |source| LogError::Disk {
                file: self.path.clone(),
                source: Box::new(redb::Error::Io(source)),
            };
            if !self.snapshots.has_received(index).map_err(fail)? {
                return Err(LogError::Misuse("the snapshot to begin with was not received"));
            }
        }
        let mut last = self.state.last.index;
        self.transact(|transaction| {
            let mut log = transaction.open_table(LOG)?;
            for write in writes {
                if let Some(record) = &write.snapshot {
                    log.retain_in::<u64, _>(.., |_, _| false)?;
                    last = record.point.at.index;
                }
                if let Some(first) = write.entries.first()
                    && first.at.index <= last
                {
                    log.retain_in::<u64, _>(first.at.index.., |_, _| false)?;
                }
                for entry in &write.entries {
                    log.insert(entry.at.index, encode_entry(entry).as_slice())?;
                    last = entry.at.index;
                }
            }
            if installs {
                put_meta(transaction, BASE, &base.encode())?;
            }
            put_meta(transaction, STATE, &state.encode())
        })?;
        self.state = state;
        self.base = base;
        if installs { self.adopt_snapshot() } else { Ok(()) }
    }

    fn record_snapshot(&mut self, snapshot: &SnapshotRecord, trim_through: u64) -> Result<(), LogError> {
        let point = &snapshot.point;
        if self.failed {
            return Err(LogError::Stopped);
        }
        if point.at.index < self.base.point.at.index {
            return Ok(());
        }
        if point.at.index > self.state.last.index {
            return Err(LogError::Misuse("the snapshot is newer than the log"));
        }
        if trim_through > point.at.index {
            return Err(LogError::Misuse("entries that the snapshot does not hold cannot be trimmed"));
        }
        if point.configuration.members.len() > MAX_MEMBERS {
            return Err(LogError::Misuse("the configuration has too many members"));
        }
        let mut state = self.state;
        state.hard_state.commit = state.hard_state.commit.max(point.at.index);
        let base = Base { point: point.clone(), file: Some(snapshot.file()) };
        self.transact(|transaction| {
            let mut log = transaction.open_table(LOG)?;
            if trim_through > state.start.index {
                state.start = LogPosition { index: trim_through, term: term_at(&log, trim_through)? };
                log.retain_in::<u64, _>(..=trim_through, |_, _| false)?;
            }
            put_meta(transaction, BASE, &base.encode())?;
            put_meta(transaction, STATE, &state.encode())
        })?;
        self.state = state;
        self.base = base;
        Ok(())
    }
}

pub(super) fn put_meta(transaction: &WriteTransaction, key: &str, body: &[u8]) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(key, seal(key.as_bytes(), body).as_slice())?;
    Ok(())
}

fn term_at(log: &Table<'_, u64, &[u8]>, index: u64) -> Result<u64, redb::Error> {
    let stored = log.get(index)?;
    let entry = stored.as_ref().and_then(|stored| decode_entry(index, stored.value()));
    Ok(entry
        .ok_or_else(|| redb::Error::Corrupted(format!("log entry {index} is missing or damaged")))?
        .at
        .term)
}

fn encode_entry(entry: &LogEntry) -> Vec<u8> {
    let mut body = Encoder(vec![match entry.kind {
        EntryKind::Command => COMMAND,
        EntryKind::Configuration => CONFIGURATION,
    }]);
    body.u64(entry.at.term);
    body.0.extend_from_slice(&entry.payload);
    seal(&entry.at.index.to_le_bytes(), &body.0)
}

/// `None` if the entry is damaged.
pub(super) fn decode_entry(index: u64, stored: &[u8]) -> Option<LogEntry> {
    let body = unseal(&index.to_le_bytes(), stored)?;
    let (kind, fields) = body.split_first()?;
    let kind = match *kind {
        COMMAND => EntryKind::Command,
        CONFIGURATION => EntryKind::Configuration,
        _ => return None,
    };
    let mut fields = Decoder(fields);
    let term = fields.u64()?;
    Some(LogEntry { at: LogPosition { index, term }, kind, payload: fields.rest().to_vec() })
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Encoder::default();
        let Self { hard_state: HardState { term, vote, commit }, start, last } = self;
        body.u64(*term).u64(*vote).u64(*commit);
        body.u64(start.index).u64(start.term).u64(last.index).u64(last.term);
        body.0
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Decoder(body);
        let hard_state = HardState { term: fields.u64()?, vote: fields.u64()?, commit: fields.u64()? };
        let start = LogPosition { index: fields.u64()?, term: fields.u64()? };
        let last = LogPosition { index: fields.u64()?, term: fields.u64()? };
        fields.end()?;
        Some(Self { hard_state, start, last })
    }
}

impl Base {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Encoder::default();
        body.u64(self.point.at.index).u64(self.point.at.term).configuration(&self.point.configuration);
        if let Some(SnapshotFile { length, checksum }) = self.file {
            body.u64(length).u32(checksum);
        }
        body.0
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Decoder(body);
        let at = LogPosition { index: fields.u64()?, term: fields.u64()? };
        let point = SnapshotPoint { at, configuration: fields.configuration()? };
        let file = match fields.0 {
            [] => None,
            _ => Some(SnapshotFile { length: fields.u64()?, checksum: fields.u32()? }),
        };
        fields.end()?;
        Some(Self { point, file })
    }
}

/// Opens the database in this file, verifying all of it; an empty file becomes a new one.
pub(super) fn open_database(file: Box<dyn DiskFile>) -> Result<Database, redb::Error> {
    // Without the check redb trusts its pages, and may panic on a damaged one.
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_SIZE).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(Backend(file))?)
}

/// One of our files, as redb wants it.
#[derive(Debug)]
struct Backend(Box<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.resize(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
