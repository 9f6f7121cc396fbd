//! Snapshot files: the database as of one log index, in chunks, checksummed, written beside the log.
//!
//! The layout, all numbers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | magic `CLDSNAP\n` |
//! | 4 | format version, 3 |
//! | 4 | length of the rest of the header |
//! | 16, 8, 8 | cell, index, term |
//! | n | the configuration |
//! | 4 + n | each chunk: its length (1 to [`MAX_CHUNK`]) and its bytes |
//! | 4 | 0: no more chunks |
//! | 8 | length of the whole file |
//! | 4 | CRC32C of all bytes before it |
//!
//! A file is written under a temporary name, synced and renamed, so one that bears its name is whole; a
//! [`SnapshotReader`] reads and checks all of it before it gives out the first chunk all the same.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::disk::{Disk, DiskFile};
use super::log::{LogPosition, SnapshotPoint, SnapshotRecord};
use super::record::{Decoder, Encoder};

/// The largest chunk, in bytes.
pub const MAX_CHUNK: usize = 1 << 20;

/// So many bytes are written before they are synced. Much that is not holds up the log's next sync, for the file systems'
/// journals write it first.
const SYNC_AFTER: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"CLDSNAP\n";
const FORMAT: u32 = 3;
const MAX_HEADER: u32 = 8192;
const PREFIX_SIZE: usize = 16;
const TRAILER_SIZE: u64 = 16;
const TEMPORARY: &str = ".tmp";
const RECEIVED: &str = ".received";

/// The snapshot files of one data directory. Cheap to clone and independent of the log, so that a thread of its own
/// can write a snapshot while the log goes on.
#[derive(Debug, Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    cell: u128,
}

/// What a file name in the data directory says about a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotName {
    /// A whole snapshot as of this index.
    Whole(u64),
    /// A whole snapshot from another server, with which the log does not begin yet.
    Received(u64),
    /// One that was not finished.
    Unfinished,
}

impl SnapshotName {
    /// `None` if the name is not a snapshot's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let whole = name.strip_suffix(TEMPORARY);
        let final_name = whole.unwrap_or(name);
        let received = final_name.strip_suffix(RECEIVED);
        let digits = received.unwrap_or(final_name).strip_prefix("snapshot-")?;
        let index = u64::from_str_radix(digits, 16).ok()?;
        if file_name(index) != received.unwrap_or(final_name) {
            return None;
        }
        Some(match (whole, received) {
            (Some(_), _) => Self::Unfinished,
            (None, Some(_)) => Self::Received(index),
            (None, None) => Self::Whole(index),
        })
    }
}

/// The name of the snapshot as of this index.
pub(super) fn file_name(index: u64) -> String {
    format!("snapshot-{index:016x}")
}

impl Snapshots {
    /// The snapshots of this cell on this disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, cell: u128) -> Self {
        Self { disk, cell }
    }

    /// The disk that they are on.
    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Begins a snapshot file for this point. Until [`SnapshotWriter::finish`] it has a temporary name, and dropping
    /// the writer removes it.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`] if there is a snapshot of this index, or the disk's.
    pub fn create(&self, point: SnapshotPoint) -> Result<SnapshotWriter, SnapshotError> {
        let name = file_name(point.at.index);
        let fail = |source| SnapshotError::Disk { file: self.disk.location().join(&name), source };
        let names = self.disk.list().map_err(fail)?;
        if names.contains(&name) {
            return Err(SnapshotError::Exists { file: self.disk.location().join(name) });
        }
        self.begin(name, point)
    }

    /// Begins the copy of another server's snapshot, to which the chunks of that one are to be written. What
    /// [`SnapshotWriter::finish`] returns must be the record that the other server told, or the copy is not to be used;
    /// then a [`LogWrite`](super::LogWrite) makes the log begin with it. A copy with which no log begins is replaced by
    /// the next of its index, or removed when the store is opened.
    ///
    /// # Errors
    /// The disk's.
    pub fn receive(&self, point: SnapshotPoint) -> Result<SnapshotWriter, SnapshotError> {
        self.begin(format!("{}{RECEIVED}", file_name(point.at.index)), point)
    }

    /// The file of the snapshot as of this index, to be sent to another server as it is.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`], or the disk's.
    pub fn source(&self, index: u64) -> Result<SnapshotSource, SnapshotError> {
        let path = self.disk.location().join(file_name(index));
        match self.disk.open(&file_name(index)) {
            Ok(file) => Ok(SnapshotSource { file, path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SnapshotError::Missing { file: path })
            }
            Err(source) => Err(SnapshotError::Disk { file: path, source }),
        }
    }

    /// Begins the copy of another server's snapshot, to which the bytes of that server's [`SnapshotSource`] are to be
    /// written. It has a temporary name until [`SnapshotCopy::finish`]; see also [`Self::receive`].
    ///
    /// # Errors
    /// The disk's.
    pub fn copy(&self, record: SnapshotRecord) -> Result<SnapshotCopy, SnapshotError> {
        let name = format!("{}{RECEIVED}", file_name(record.point.at.index));
        let writer = self.open_writer(name, record.point.clone())?;
        Ok(SnapshotCopy { writer, record, cell: self.cell })
    }

    /// Gives the received snapshot of this index its final name, durably, if there is one.
    pub(super) fn adopt(&self, index: u64) -> io::Result<()> {
        let name = file_name(index);
        match self.disk.rename(&format!("{name}{RECEIVED}"), &name) {
            Ok(()) => self.disk.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a received snapshot of this index waits to be adopted.
    pub(super) fn has_received(&self, index: u64) -> io::Result<bool> {
        let name = format!("{}{RECEIVED}", file_name(index));
        Ok(self.disk.list()?.contains(&name))
    }

    fn begin(&self, name: String, point: SnapshotPoint) -> Result<SnapshotWriter, SnapshotError> {
        let mut writer = self.open_writer(name, point)?;
        let header = header(self.cell, &writer.point);
        writer.write(&header)?;
        Ok(writer)
    }

    fn open_writer(&self, name: String, point: SnapshotPoint) -> Result<SnapshotWriter, SnapshotError> {
        let fail = |source| SnapshotError::Disk { file: self.disk.location().join(&name), source };
        let temporary = format!("{name}{TEMPORARY}");
        let file = self.disk.create(&temporary).map_err(fail)?;
        Ok(SnapshotWriter {
            disk: Arc::clone(&self.disk),
            file,
            name,
            temporary: Some(temporary),
            point,
            written: 0,
            synced: 0,
            checksum: 0,
        })
    }

    /// Opens the snapshot as of this index, after reading and checking all of it.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn read(&self, index: u64) -> Result<SnapshotReader, SnapshotError> {
        let path = self.disk.location().join(file_name(index));
        match self.disk.open(&file_name(index)) {
            Ok(file) => SnapshotReader::verify(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SnapshotError::Missing { file: path })
            }
            Err(source) => Err(SnapshotError::Disk { file: path, source }),
        }
    }

    /// Removes the snapshots older than this index; to be called when the one of this index was recorded in the log.
    /// A reader that has one open reads on.
    ///
    /// # Errors
    /// The disk's. What was not removed now is removed when the store is opened next.
    pub fn remove_before(&self, index: u64) -> Result<(), SnapshotError> {
        let fail = |source| SnapshotError::Disk { file: self.disk.location().to_owned(), source };
        for name in self.disk.list().map_err(fail)? {
            if matches!(SnapshotName::parse(&name), Some(SnapshotName::Whole(found)) if found < index) {
                self.disk.remove(&name).map_err(fail)?;
            }
        }
        Ok(())
    }
}

fn header(cell: u128, point: &SnapshotPoint) -> Vec<u8> {
    let mut body = Encoder::default();
    body.u128(cell).u64(point.at.index).u64(point.at.term).configuration(&point.configuration);
    let mut header = Encoder(MAGIC.to_vec());
    header.u32(FORMAT).u32(body.0.len() as u32);
    header.0.append(&mut body.0);
    header.0
}

/// Writes one snapshot file. Blocks on the disk.
#[derive(Debug)]
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    name: String,
    /// `None` once the file has its final name.
    temporary: Option<String>,
    point: SnapshotPoint,
    written: u64,
    /// How much of that was synced.
    synced: u64,
    checksum: u32,
}

impl SnapshotWriter {
    /// Appends a chunk of 1 to [`MAX_CHUNK`] bytes. Chunks come back from the reader as they were written.
    ///
    /// # Errors
    /// [`SnapshotError::ChunkSize`], or the disk's: then the snapshot is to be given up.
    pub fn write_chunk(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        match u32::try_from(chunk.len()) {
            Ok(length) if length > 0 && chunk.len() <= MAX_CHUNK => {
                self.write(&length.to_le_bytes())?;
                self.write(chunk)
            }
            _ => Err(SnapshotError::ChunkSize { size: chunk.len() }),
        }
    }

    /// Completes the file: when this returns, it is durable under its final name, and can be recorded in the log.
    ///
    /// # Errors
    /// The disk's: then the snapshot is to be given up, and another may be tried.
    pub fn finish(mut self) -> Result<SnapshotRecord, SnapshotError> {
        let mut trailer = Encoder::default();
        trailer.u32(0).u64(self.written + TRAILER_SIZE);
        self.write(&trailer.0)?;
        self.seal()
    }

    /// Ends the file with its checksum, and makes it durable under its final name.
    fn seal(&mut self) -> Result<SnapshotRecord, SnapshotError> {
        let checksum = self.checksum;
        self.write(&checksum.to_le_bytes())?;
        self.file.sync().map_err(|source| self.disk_error(source))?;
        if let Some(temporary) = &self.temporary {
            self.disk.rename(temporary, &self.name).map_err(|source| self.disk_error(source))?;
        }
        self.temporary = None;
        self.disk.sync().map_err(|source| self.disk_error(source))?;
        Ok(SnapshotRecord { point: self.point.clone(), length: self.written, checksum })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write(self.written, bytes).map_err(|source| self.disk_error(source))?;
        self.written += bytes.len() as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        if self.written - self.synced >= SYNC_AFTER {
            self.file.sync().map_err(|source| self.disk_error(source))?;
            self.synced = self.written;
        }
        Ok(())
    }

    fn disk_error(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Disk { file: self.disk.location().join(&self.name), source }
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Only to free the space early: opening the store removes it too.
            let _ = self.disk.remove(temporary);
        }
    }
}

/// A snapshot's file as it is on the disk, but for the checksum at its end: that is told with its [`SnapshotRecord`].
#[derive(Debug)]
pub struct SnapshotSource {
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

/// The length of the checksum at the end of a file.
const CHECKSUM: u64 = 4;

impl SnapshotSource {
    /// How much of a file there is to be sent.
    #[must_use]
    pub const fn length(record: &SnapshotRecord) -> u64 {
        record.length.saturating_sub(CHECKSUM)
    }

    /// A part of it.
    ///
    /// # Errors
    /// The disk's, also if the file is shorter.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; length];
        let read = self.file.read(offset, &mut bytes);
        read.map_err(|source| SnapshotError::Disk { file: self.path.clone(), source })?;
        Ok(bytes)
    }
}

/// Writes the copy of another server's snapshot file. Blocks on the disk. Dropping it removes what was written.
#[derive(Debug)]
pub struct SnapshotCopy {
    writer: SnapshotWriter,
    record: SnapshotRecord,
    cell: u128,
}

impl SnapshotCopy {
    /// Appends what comes next.
    ///
    /// # Errors
    /// The disk's: then the copy is to be given up.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.writer.write(bytes)
    }

    /// Completes the file, durably, and opens it; a [`LogWrite`](super::LogWrite) with its record makes the log begin with it.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`] if it is not what it must be, or not of this cell, or the disk's.
    pub fn finish(mut self) -> Result<SnapshotReader, SnapshotError> {
        let path = self.writer.disk.location().join(&self.writer.name);
        let corrupt = |what| SnapshotError::Corrupt { file: path.clone(), what };
        let length = self.writer.written.checked_add(CHECKSUM);
        if (length, self.writer.checksum) != (Some(self.record.length), self.record.checksum) {
            return Err(corrupt("it is not what the other server announced"));
        }
        self.writer.seal()?;
        let open = self.writer.disk.open(&self.writer.name);
        let file = open.map_err(|source| self.writer.disk_error(source))?;
        let reader = SnapshotReader::verify(file, path.clone())?;
        if *reader.record() != self.record || reader.cell() != self.cell {
            return Err(corrupt("it stands for something else, or is of another cell"));
        }
        Ok(reader)
    }
}

/// Reads one snapshot file that was found whole. Blocks on the disk.
#[derive(Debug)]
pub struct SnapshotReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    cell: u128,
    record: SnapshotRecord,
    /// Where the next chunk begins.
    position: u64,
}

impl SnapshotReader {
    /// Opens a snapshot file wherever it is, after reading and checking all of it.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        match File::open(path) {
            Ok(file) => Self::verify(Box::new(file), path.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(SnapshotError::Missing { file: path.to_owned() })
            }
            Err(source) => Err(SnapshotError::Disk { file: path.to_owned(), source }),
        }
    }

    fn verify(file: Box<dyn DiskFile>, path: PathBuf) -> Result<Self, SnapshotError> {
        let corrupt = |what| SnapshotError::Corrupt { file: path.clone(), what };
        let disk = |source| SnapshotError::Disk { file: path.clone(), source };
        let length = file.size().map_err(disk)?;
        if length < PREFIX_SIZE as u64 + TRAILER_SIZE {
            return Err(corrupt("it is too short for a snapshot"));
        }
        let mut prefix = [0; PREFIX_SIZE];
        file.read(0, &mut prefix).map_err(disk)?;
        let mut fields = Decoder(prefix.strip_prefix(MAGIC).ok_or_else(|| corrupt("it is not a snapshot"))?);
        let (format, header_size) =
            fields.u32().zip(fields.u32()).ok_or_else(|| corrupt("it is too short"))?;
        if format > FORMAT {
            return Err(SnapshotError::NewerFormat { file: path, found: format, known: FORMAT });
        }
        if format < FORMAT {
            return Err(SnapshotError::OlderFormat { file: path, found: format, known: FORMAT });
        }

        let mut trailer = [0; 12];
        file.read(length - 12, &mut trailer).map_err(disk)?;
        let mut fields = Decoder(&trailer);
        let (total, checksum) = fields.u64().zip(fields.u32()).ok_or_else(|| corrupt("it is too short"))?;
        if total != length {
            return Err(corrupt("its length is not what its end says"));
        }
        if checksum_of(file.as_ref(), length - 4).map_err(disk)? != checksum {
            return Err(corrupt("its checksum is wrong"));
        }

        if header_size > MAX_HEADER {
            return Err(corrupt("its header is too long"));
        }
        let mut header = vec![0; header_size as usize];
        file.read(PREFIX_SIZE as u64, &mut header).map_err(disk)?;
        let (cell, point) = parse_header(&header).ok_or_else(|| corrupt("its header makes no sense"))?;
        let position = PREFIX_SIZE as u64 + u64::from(header_size);
        Ok(Self { file, path, cell, record: SnapshotRecord { point, length, checksum }, position })
    }

    /// The cell that the snapshot is of.
    pub fn cell(&self) -> u128 {
        self.cell
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the log should say about this file.
    pub fn record(&self) -> &SnapshotRecord {
        &self.record
    }

    /// The next chunk, `None` after the last.
    ///
    /// # Errors
    /// The disk's, or [`SnapshotError::Corrupt`] when the file is no longer what was checked.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let disk = |source| SnapshotError::Disk { file: self.path.clone(), source };
        let mut length = [0; 4];
        self.file.read(self.position, &mut length).map_err(disk)?;
        let size = u32::from_le_bytes(length) as usize;
        let end = self.position + 4 + size as u64;
        let chunks_end = self.record.length - TRAILER_SIZE;
        if size == 0 && self.position == chunks_end {
            return Ok(None);
        }
        if size == 0 || size > MAX_CHUNK || end > chunks_end {
            return Err(SnapshotError::Corrupt { file: self.path.clone(), what: "its chunks make no sense" });
        }
        let mut chunk = vec![0; size];
        self.file.read(self.position + 4, &mut chunk).map_err(disk)?;
        self.position = end;
        Ok(Some(chunk))
    }
}

fn parse_header(header: &[u8]) -> Option<(u128, SnapshotPoint)> {
    let mut fields = Decoder(header);
    let cell = fields.u128()?;
    let at = LogPosition { index: fields.u64()?, term: fields.u64()? };
    let configuration = fields.configuration()?;
    fields.end()?;
    Some((cell, SnapshotPoint { at, configuration }))
}

/// The CRC32C of the file's first `length` bytes.
fn checksum_of(file: &dyn DiskFile, length: u64) -> io::Result<u32> {
    let mut buffer = vec![0; 256 << 10];
    let (mut checksum, mut position) = (0, 0);
    while position < length {
        let size = usize::try_from(length - position).unwrap_or(usize::MAX).min(buffer.len());
        let block = buffer.get_mut(..size).unwrap_or_default();
        file.read(position, block)?;
        checksum = crc32c::crc32c_append(checksum, block);
        position += size as u64;
    }
    Ok(checksum)
}

/// Why a snapshot could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk failed, or is full.
    #[error("{}: {source}", file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// There is a snapshot of this index already.
    #[error("{} exists already; a snapshot is never overwritten", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// There is no such snapshot.
    #[error("{} does not exist", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file is damaged or not a snapshot.
    #[error("{} is damaged: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        what: &'static str,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found} and this version knows {known}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The file was written by an older version.
    #[error("{} has format {found}, of an older version, and this one reads {known}", file.display())]
    OlderFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// A chunk is empty or too large.
    #[error("a chunk of {size} bytes; it must have 1 to {MAX_CHUNK}")]
    ChunkSize {
        /// The chunk's size.
        size: usize,
    },
}
