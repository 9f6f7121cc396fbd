//! What happens when a store is opened: a new one is made, or the one that is there is read and verified whole.

use std::cmp::Ordering;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::configuration::{Addresses, Configuration};
use super::disk::{Disk, OsDisk};
use super::log::{HardState, Identity, LogEntry, LogImage, LogPosition, SnapshotPoint};
use super::mark::refuse_marked;
use super::open::{DirectoryLock, LOCK_NAME, OpenError, OpenMode};
use super::record::{Decoder, Encoder, unseal};
use super::restore::RESTORING;
use super::snapshot::{SnapshotError, SnapshotName, SnapshotReader, Snapshots, file_name};
use super::store::{
    BASE, Base, FORMAT, IDENTITY, LOG, LOG_NAME, META, STATE, State, Store, decode_entry, open_database,
    put_meta,
};

/// The log's name while it is being made.
pub(super) const UNFINISHED_LOG: &str = "log.redb.tmp";

/// Where a new cell's log begins. Not at 0: a server that joins later has nothing, and must see that it lacks the
/// cell's first configuration, which no entry holds.
const ORIGIN: LogPosition = LogPosition { index: 1, term: 1 };

/// What a store held when it was opened. All of it was verified.
#[derive(Debug)]
pub struct Recovered {
    /// The log, for the consensus engine.
    pub log: LogImage,
    /// The snapshot at the log's base, for the database; none in a cell that has not made one yet.
    pub snapshot: Option<SnapshotReader>,
}

impl Store {
    /// Opens a data directory and keeps it locked until the store is dropped.
    ///
    /// A directory that does not exist is made with mode 0700 if a new cell is asked for; files are made with mode
    /// 0600. Leftovers of interrupted work are removed.
    ///
    /// # Errors
    /// See [`OpenError`]; each names the file and the remedy.
    pub fn open(directory: &Path, mode: OpenMode) -> Result<(Self, Recovered), OpenError> {
        let disk = OsDisk::new(directory);
        let fail = |source| OpenError::Disk { file: directory.to_owned(), source };
        if mode != OpenMode::Existing {
            disk.make_directory().map_err(fail)?;
        }
        // Look before making the lock file, to leave a foreign directory as it is.
        match disk.list() {
            Ok(names) => has_log(&disk, &names, mode)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NoCell { directory: directory.to_owned() });
            }
            Err(error) => return Err(fail(error)),
        };
        let lock = DirectoryLock::take(directory)?;
        let (mut store, recovered) = Self::open_on(Arc::new(disk), mode)?;
        store._lock = Some(lock);
        Ok((store, recovered))
    }

    /// Like [`Store::open`], on any disk, which nobody else may use meanwhile.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(disk: Arc<dyn Disk>, mode: OpenMode) -> Result<(Self, Recovered), OpenError> {
        let location = disk.location().to_owned();
        let fail = |name: &str, source| OpenError::Disk { file: location.join(name), source };
        let names = disk.list().map_err(|source| fail("", source))?;
        if !has_log(disk.as_ref(), &names, mode)? {
            match mode {
                OpenMode::Existing => {}
                OpenMode::NewCell(identity) => {
                    make_first(disk.as_ref(), identity, Addresses::default())?;
                }
                OpenMode::FirstMember(identity, addresses) => {
                    make_first(disk.as_ref(), identity, addresses)?;
                }
                OpenMode::NewMember(identity) | OpenMode::Restore(identity) => {
                    make_log(disk.as_ref(), identity, SnapshotPoint::default())?;
                }
            }
        }
        let names = disk.list().map_err(|source| fail("", source))?;
        refuse_marked(disk.as_ref(), &names)?;

        let path = location.join(LOG_NAME);
        let file = disk.open(LOG_NAME).map_err(|source| fail(LOG_NAME, source))?;
        if file.size().map_err(|source| fail(LOG_NAME, source))? == 0 {
            return Err(OpenError::Corrupt { file: path, what: "it is empty".to_owned() });
        }
        let loader = Loader { path: &path };
        let database = open_database(file).map_err(|error| loader.database_error(error))?;
        let (identity, state, base, entries) = loader.load(&database)?;
        let snapshots = Snapshots::new(Arc::clone(&disk), identity.cell);
        if base.file.is_some() {
            // The machine may have gone off between the log's new beginning and the file's new name.
            snapshots.adopt(base.point.at.index).map_err(|source| fail(LOG_NAME, source))?;
        }
        let snapshot = open_snapshot(&snapshots, &location, identity, &base)?;
        for name in &names {
            let leftover = match SnapshotName::parse(name) {
                Some(SnapshotName::Whole(index)) if index > state.last.index => {
                    return Err(OpenError::LogOutdated { file: location.join(name), last: state.last.index });
                }
                Some(SnapshotName::Whole(index)) => index != base.point.at.index,
                Some(SnapshotName::Received(_) | SnapshotName::Unfinished) => true,
                None => name == UNFINISHED_LOG,
            };
            if leftover {
                match disk.remove(name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(name, error)),
                    _ => {}
                }
            }
        }

        let log = LogImage {
            hard_state: state.hard_state,
            base: base.point.clone(),
            file: base.file,
            start: state.start,
            entries,
        };
        let store = Self { database, identity, state, base, snapshots, path, failed: false, _lock: None };
        Ok((store, Recovered { log, snapshot }))
    }
}

/// Whether the directory holds a log. A directory without one must be empty, and a new cell must be wanted.
fn has_log(disk: &dyn Disk, names: &[String], mode: OpenMode) -> Result<bool, OpenError> {
    let restoring = names.iter().any(|name| name == RESTORING);
    if restoring && !matches!(mode, OpenMode::Restore(_)) {
        return Err(OpenError::Unfinished { directory: disk.location().to_owned() });
    }
    if names.iter().any(|name| name == LOG_NAME) {
        return Ok(true);
    }
    for name in names {
        match SnapshotName::parse(name) {
            Some(SnapshotName::Whole(_)) => {
                return Err(OpenError::LogMissing { file: disk.location().join(LOG_NAME) });
            }
            Some(SnapshotName::Received(_) | SnapshotName::Unfinished) => {}
            None if name == LOCK_NAME || name == UNFINISHED_LOG || name == RESTORING => {}
            None => return Err(OpenError::Foreign { file: disk.location().join(name) }),
        }
    }
    match mode {
        OpenMode::Existing => Err(OpenError::NoCell { directory: disk.location().to_owned() }),
        OpenMode::NewCell(_) | OpenMode::FirstMember(..) | OpenMode::NewMember(_) | OpenMode::Restore(_) => {
            Ok(false)
        }
    }
}

/// Makes the log of the one server of a new cell.
fn make_first(disk: &dyn Disk, identity: Identity, addresses: Addresses) -> Result<(), OpenError> {
    let configuration = Configuration::of_one(identity.node.get(), addresses);
    make_log(disk, identity, SnapshotPoint { at: ORIGIN, configuration })
}

/// Makes a log that begins at this point. It gets its name when it is whole.
fn make_log(disk: &dyn Disk, identity: Identity, point: SnapshotPoint) -> Result<(), OpenError> {
    let path = disk.location().join(LOG_NAME);
    let fail = |source| OpenError::Disk { file: path.clone(), source };
    match disk.remove(UNFINISHED_LOG) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let at = point.at;
    let base = Base { point, file: None };
    let hard_state = HardState { term: at.term, vote: 0, commit: at.index };
    let state = State { hard_state, start: at, last: at };
    let mut identity_record = Encoder::default();
    identity_record.u32(FORMAT).u64(identity.node.get()).u128(identity.cell);

    let file = disk.create(UNFINISHED_LOG).map_err(fail)?;
    let fill = || -> Result<(), redb::Error> {
        let database = open_database(file)?;
        let transaction = database.begin_write()?;
        transaction.open_table(LOG)?;
        put_meta(&transaction, IDENTITY, &identity_record.0)?;
        put_meta(&transaction, STATE, &state.encode())?;
        put_meta(&transaction, BASE, &base.encode())?;
        transaction.commit()?;
        Ok(database.close()?)
    };
    fill().map_err(|source| OpenError::Database { file: path.clone(), source: Box::new(source) })?;
    disk.rename(UNFINISHED_LOG, LOG_NAME).map_err(fail)?;
    disk.sync().map_err(fail)
}

fn open_snapshot(
    snapshots: &Snapshots,
    location: &Path,
    identity: Identity,
    base: &Base,
) -> Result<Option<SnapshotReader>, OpenError> {
    let Some(file) = base.file else { return Ok(None) };
    let index = base.point.at.index;
    let reader = snapshots.read(index).map_err(|error| match error {
        SnapshotError::Missing { file } => OpenError::SnapshotMissing { file },
        SnapshotError::NewerFormat { file, found, known } => OpenError::NewerFormat { file, found, known },
        SnapshotError::OlderFormat { file, found, known } => OpenError::OlderFormat { file, found, known },
        SnapshotError::Corrupt { file, what } => OpenError::Corrupt { file, what: what.to_owned() },
        SnapshotError::Disk { file, source } => OpenError::Disk { file, source },
        error @ (SnapshotError::Exists { .. } | SnapshotError::ChunkSize { .. }) => {
            OpenError::Disk { file: location.join(file_name(index)), source: io::Error::other(error) }
        }
    })?;
    let found = reader.record();
    if (found.file(), &found.point) != (file, &base.point) || reader.cell() != identity.cell {
        return Err(OpenError::SnapshotForeign { file: location.join(file_name(index)) });
    }
    Ok(Some(reader))
}

/// Reads the log's file and checks that it makes sense.
struct Loader<'a> {
    path: &'a Path,
}

impl Loader<'_> {
    fn load(&self, database: &Database) -> Result<(Identity, State, Base, Vec<LogEntry>), OpenError> {
        let transaction = database.begin_read().map_err(|error| self.database_error(error.into()))?;
        let identity = self.meta(&transaction, IDENTITY)?;
        let mut fields = Decoder(&identity);
        let format = fields.u32().ok_or_else(|| self.corrupt("its identity record is too short"))?;
        let file = self.path.to_owned();
        match format.cmp(&FORMAT) {
            Ordering::Greater => return Err(OpenError::NewerFormat { file, found: format, known: FORMAT }),
            Ordering::Less => return Err(OpenError::OlderFormat { file, found: format, known: FORMAT }),
            Ordering::Equal => {}
        }
        let identity =
            parse_identity(fields).ok_or_else(|| self.corrupt("its identity record makes no sense"))?;
        let state = State::decode(&self.meta(&transaction, STATE)?)
            .ok_or_else(|| self.corrupt("its state record makes no sense"))?;
        let base = Base::decode(&self.meta(&transaction, BASE)?)
            .ok_or_else(|| self.corrupt("its base record makes no sense"))?;
        let entries = self.entries(&transaction, &state)?;
        self.check(&state, &base, &entries)?;
        Ok((identity, state, base, entries))
    }

    fn meta(&self, transaction: &ReadTransaction, key: &str) -> Result<Vec<u8>, OpenError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let stored = transaction.open_table(META)?.get(key)?;
            Ok(stored.map(|stored| stored.value().to_vec()))
        };
        let stored = read().map_err(|error| self.database_error(error))?;
        let stored = stored.ok_or_else(|| self.corrupt(&format!("its {key} record is missing")))?;
        let body = unseal(key.as_bytes(), &stored);
        Ok(body.ok_or_else(|| self.corrupt(&format!("the checksum of its {key} record is wrong")))?.to_vec())
    }

    fn entries(&self, transaction: &ReadTransaction, state: &State) -> Result<Vec<LogEntry>, OpenError> {
        let fail = |error: redb::Error| self.database_error(error);
        let table = transaction.open_table(LOG).map_err(|error| fail(error.into()))?;
        let mut entries = Vec::new();
        let mut last = state.start;
        for item in table.iter().map_err(|error| fail(error.into()))? {
            let (index, stored) = item.map_err(|error| fail(error.into()))?;
            let index = index.value();
            if index != last.index + 1 {
                return Err(self.corrupt(&format!("entry {} is missing", last.index + 1)));
            }
            let entry = decode_entry(index, stored.value())
                .ok_or_else(|| self.corrupt(&format!("the checksum of entry {index} is wrong")))?;
            if entry.at.term < last.term {
                return Err(self.corrupt(&format!("the term of entry {index} is older than that before it")));
            }
            last = entry.at;
            entries.push(entry);
        }
        if last != state.last {
            return Err(self.corrupt(&format!(
                "it should end at entry {} but ends at {}",
                state.last.index, last.index
            )));
        }
        Ok(entries)
    }

    /// What holds between the records, if each is whole.
    fn check(&self, state: &State, base: &Base, entries: &[LogEntry]) -> Result<(), OpenError> {
        let State { hard_state, start, last } = state;
        let at = base.point.at;
        if start.index > at.index {
            return Err(OpenError::Gap {
                file: self.path.to_owned(),
                first: start.index + 1,
                snapshot: at.index,
            });
        }
        let entry =
            usize::try_from(at.index - start.index).ok().and_then(|after| entries.get(after.checked_sub(1)?));
        if entry.map_or(*start, |entry| entry.at) != at {
            return Err(self.corrupt(&format!("its snapshot at {} is not a place in the log", at.index)));
        }
        if !(at.index..=last.index).contains(&hard_state.commit) || hard_state.term < last.term {
            return Err(self.corrupt("its hard state does not fit its entries"));
        }
        Ok(())
    }

    fn corrupt(&self, what: &str) -> OpenError {
        OpenError::Corrupt { file: self.path.to_owned(), what: what.to_owned() }
    }

    fn database_error(&self, error: redb::Error) -> OpenError {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        let file = self.path.to_owned();
        match error {
            redb::Error::Corrupted(what) => OpenError::Corrupt { file, what },
            redb::Error::Io(source) if matches!(source.kind(), InvalidData | UnexpectedEof) => {
                OpenError::Corrupt { file, what: source.to_string() }
            }
            redb::Error::Io(source) => OpenError::Disk { file, source },
            error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
                OpenError::Corrupt { file, what: error.to_string() }
            }
            error => OpenError::Database { file, source: Box::new(error) },
        }
    }
}

fn parse_identity(mut fields: Decoder<'_>) -> Option<Identity> {
    let node = fields.u64()?.try_into().ok()?;
    let cell = fields.u128()?;
    fields.end()?;
    Some(Identity { node, cell })
}
