//! A disk in memory that keeps what it promised and no more: at a crash, what was not synced is lost, kept or torn.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::{Disk, DiskFile};

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A splitmix64 generator.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct FaultyDisk {
    state: Arc<Mutex<State>>,
    location: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    /// File names and numbers as a running program sees them, and as a crash leaves them at least.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    files: Vec<FileState>,
    /// Files opened before a crash are dead.
    crashes: u64,
    crashed: bool,
    changes_until_crash: Option<u64>,
    writes_until_full: Option<u64>,
    failing_syncs: bool,
    failing_reads: bool,
    syncs: u64,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, usize),
    Remove(String),
}

#[derive(Debug, Default)]
struct FileState {
    content: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                content.resize(content.len().max(offset + data.len()), 0);
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::Resize(size) => content.resize(*size, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, file) => names.insert(name.clone(), *file),
            Self::Remove(name) => names.remove(name),
        };
    }
}

fn dead() -> io::Error {
    io::Error::other("the machine is off")
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }

    /// To be called before every change.
    fn count_change(&mut self) -> io::Result<()> {
        self.check_power()?;
        if let Some(left) = &mut self.changes_until_crash {
            if *left == 0 {
                self.crashed = true;
                return Err(dead());
            }
            *left -= 1;
        }
        Ok(())
    }

    fn use_space(&mut self) -> io::Result<()> {
        match &mut self.writes_until_full {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), location: PathBuf::from("/faulty") }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Turns the machine off after so many more changes (writes, syncs, renames and so on).
    pub(crate) fn crash_after(&self, changes: u64) {
        self.state().changes_until_crash = Some(changes);
    }

    /// The disk is full after so many more writes.
    pub(crate) fn full_after(&self, writes: u64) {
        self.state().writes_until_full = Some(writes);
    }

    /// From now on a sync fails, and what it should have written never becomes durable.
    pub(crate) fn fail_syncs(&self) {
        self.state().failing_syncs = true;
    }

    pub(crate) fn fail_reads(&self) {
        self.state().failing_reads = true;
    }

    /// How many syncs, of files and of the directory, there were.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Turns the machine off, if it is not, and on again, without faults. All that was open is dead.
    pub(crate) fn crash(&self, random: &mut Random) {
        let mut state = self.state();
        let state = &mut *state;
        // Some crashes lose everything, some nothing, most something.
        let losing = random.below(5);
        for file in &mut state.files {
            for change in std::mem::take(&mut file.changes) {
                match change {
                    Change::Write(offset, data) => {
                        for (number, sector) in data.chunks(SECTOR).enumerate() {
                            if random.below(4) >= losing {
                                Change::Write(offset + number * SECTOR, sector.to_vec())
                                    .apply(&mut file.durable);
                            }
                        }
                    }
                    Change::Resize(_) if random.below(4) >= losing => change.apply(&mut file.durable),
                    Change::Resize(_) => {}
                }
            }
            file.content = file.durable.clone();
        }
        let kept = random.below(state.name_changes.len() as u64 + 1) as usize;
        for change in state.name_changes.drain(..).take(kept) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        state.crashes += 1;
        state.crashed = false;
        state.changes_until_crash = None;
        state.writes_until_full = None;
        state.failing_syncs = false;
        state.failing_reads = false;
    }

    /// Another disk with the durable content of this one.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        let state = self.state();
        for (name, file) in &state.durable_names {
            let mut copied = copy.state();
            let content = state.files[*file].durable.clone();
            copied.files.push(FileState { content: content.clone(), durable: content, changes: Vec::new() });
            let number = copied.files.len() - 1;
            copied.names.insert(name.clone(), number);
            copied.durable_names.insert(name.clone(), number);
        }
        drop(state);
        copy
    }

    /// The content of a file.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[name]].content.clone()
    }

    pub(crate) fn flip_bit(&self, name: &str, byte: usize, bit: u32) {
        let mut state = self.state();
        let file = state.names[name];
        let file = &mut state.files[file];
        file.durable[byte] ^= 1 << bit;
        file.content = file.durable.clone();
    }
}

impl Disk for FaultyDisk {
    fn location(&self) -> &Path {
        &self.location
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.count_change()?;
        state.use_space()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.push(FileState::default());
        let number = state.files.len() - 1;
        state.change_names(NameChange::Set(name.to_owned(), number));
        Ok(Box::new(FaultyFile { disk: self.clone(), number, crashes: state.crashes }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state();
        state.check_power()?;
        let number = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), number, crashes: state.crashes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.count_change()?;
        let number = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // One change of the directory: both or neither survive a crash, or the file has both names.
        state.change_names(NameChange::Set(to.to_owned(), number));
        state.change_names(NameChange::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.count_change()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.count_change()?;
        state.syncs += 1;
        if state.failing_syncs {
            state.name_changes.clear();
            return Err(io::Error::other("the disk lost something"));
        }
        state.name_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    number: usize,
    crashes: u64,
}

impl FaultyFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.crashes == self.crashes { Ok(state) } else { Err(dead()) }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state()?;
        state.count_change()?;
        state.use_space()?;
        let file = &mut state.files[self.number];
        change.apply(&mut file.content);
        file.changes.push(change);
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        let state = self.state()?;
        state.check_power()?;
        Ok(state.files[self.number].content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        state.check_power()?;
        if state.failing_reads {
            return Err(io::Error::other("the disk cannot read"));
        }
        let content = &state.files[self.number].content;
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(content.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        self.change(Change::Resize(size as usize))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.count_change()?;
        state.syncs += 1;
        let failing = state.failing_syncs;
        let file = &mut state.files[self.number];
        for change in std::mem::take(&mut file.changes) {
            if !failing {
                change.apply(&mut file.durable);
            }
        }
        if failing { Err(io::Error::other("the disk lost something")) } else { Ok(()) }
    }
}
