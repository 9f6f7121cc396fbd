//! Commands that read and write files and directories.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use cldc_core::wire::dirent::Names;
use cldc_core::wire::limits::MAX_PAYLOAD;
use cldc_udp::{CallError, Code, Contents, Error, EventMask, OpenMode, Sequencer};

use super::{Shell, show};
use crate::failure::Failure;
use crate::output::{Kind, Stat};
use crate::remote::{Remote, RemoteFile};

impl<R: Remote, W: Write> Shell<R, W> {
    pub(super) fn ls(&mut self, path: Option<&[u8]>) -> Result<(), Failure> {
        let path = path.map_or_else(|| self.directory().to_vec(), |path| self.absolute(path));
        let contents = self.read(&path, OpenMode::READ | OpenMode::DIRECTORY)?;
        let names = names(&contents.data).map_err(cannot_get(&path))?;
        self.output().listing(&path, names)
    }

    pub(super) fn cat(&mut self, path: &[u8]) -> Result<(), Failure> {
        let path = self.absolute(path);
        let contents = self.read(&path, OpenMode::READ)?;
        self.output().raw(&[&contents.data, b"\n"])
    }

    pub(super) fn get(&mut self, path: &[u8]) -> Result<(), Failure> {
        let path = self.absolute(path);
        let contents = self.read(&path, OpenMode::READ)?;
        self.output().file(contents)
    }

    pub(super) fn stat(&mut self, path: &[u8]) -> Result<(), Failure> {
        let path = self.absolute(path);
        let (file, kind) = self.open_any(&path, EventMask::NONE)?;
        let contents = file.read().map_err(cannot_get(&path))?;
        let size = size(&contents, kind).map_err(cannot_get(&path))?;
        self.output().stat(&Stat::new(&contents, kind, size))
    }

    /// Replaces the contents of a file, and creates it if it does not exist; with a fence, only if that stands.
    pub(crate) fn put(&mut self, path: &[u8], data: &[u8], fence: Option<&Sequencer>) -> Result<(), Failure> {
        let path = self.absolute(path);
        let failed = format!("cannot write path `{}'", show(&path));
        check_size(data).map_err(Failure::call(failed.as_str()))?;
        if let Some(sequencer) = fence {
            // So that nothing is created in vain, as a rule: what counts is the check in the write.
            self.require(sequencer)?;
        }
        let file = self.open(&path, OpenMode::WRITE | OpenMode::CREATE)?;
        file.write(data, fence).map_err(Failure::call(failed))
    }

    pub(super) fn copy_in(&mut self, local: &[u8], remote: &[u8]) -> Result<(), Failure> {
        const FAILED: &str = "cpin(FS -> CLD) failed";
        let path = self.absolute(remote);
        let data = fs::File::open(OsStr::from_bytes(local))
            .and_then(read_limited)
            .map_err(Failure::local(format!("Failed to read data from FS path {}", show(local))))?;
        check_size(&data).map_err(Failure::call(FAILED))?;
        let mode = OpenMode::WRITE | OpenMode::CREATE;
        let file = self.remote.open(&path, mode, EventMask::NONE).map_err(cannot_open(&path))?;
        file.write(&data, None).map_err(Failure::call(FAILED))
    }

    pub(super) fn copy_out(&mut self, remote: &[u8], local: &[u8]) -> Result<(), Failure> {
        let path = self.absolute(remote);
        let file = self.remote.open(&path, OpenMode::READ, EventMask::NONE).map_err(cannot_open(&path))?;
        let contents =
            file.read().map_err(Failure::call(format!("cannot read from path `{}'", show(&path))))?;
        fs::write(OsStr::from_bytes(local), contents.data)
            .map_err(Failure::local(format!("cannot write FS path {}", show(local))))
    }

    pub(super) fn mkdir(&mut self, path: &[u8]) -> Result<(), Failure> {
        let mode = OpenMode::DIRECTORY | OpenMode::CREATE | OpenMode::EXCL;
        let made = self.remote.open(&self.absolute(path), mode, EventMask::NONE);
        made.map(drop).map_err(Failure::call(format!("mkdir({}) failed", show(path))))
    }

    /// Fails if a sequencer is stale, and else shows it.
    pub(crate) fn check_sequencer(&mut self, sequencer: &Sequencer) -> Result<(), Failure> {
        self.require(sequencer)?;
        self.output().stands(sequencer)
    }

    /// Fails if a sequencer is stale.
    fn require(&self, sequencer: &Sequencer) -> Result<(), Failure> {
        let stands = match self.remote.check_sequencer(sequencer) {
            Ok(false) => Err(Error::Server(Code::Stale)),
            checked => checked,
        };
        stands.map(drop).map_err(Failure::call(format!("sequencer {sequencer}")))
    }

    /// Deletes a file or an empty directory; with a fence, only if that stands.
    pub(crate) fn rm(&mut self, path: &[u8], fence: Option<&Sequencer>) -> Result<(), Failure> {
        let removed = self.remote.remove(&self.absolute(path), fence);
        removed.map_err(Failure::call(format!("rm({}) failed", show(path))))
    }

    fn read(&self, path: &[u8], mode: OpenMode) -> Result<Contents, Failure> {
        self.open(path, mode)?.read().map_err(cannot_get(path))
    }
}

pub(super) fn cannot_get(path: &[u8]) -> impl FnOnce(Error) -> Failure {
    Failure::call(format!("cannot get on path `{}'", show(path)))
}

pub(super) fn cannot_open(path: &[u8]) -> impl FnOnce(Error) -> Failure {
    Failure::call(format!("{}: cannot open", show(path)))
}

/// The names in a directory's contents.
pub(crate) fn names(data: &[u8]) -> Result<Vec<&[u8]>, Error> {
    Names::new(data).collect::<Result<_, _>>().map_err(|_| Error::BadAnswer)
}

/// Bytes in a file, entries in a directory.
pub(super) fn size(contents: &Contents, kind: Kind) -> Result<usize, Error> {
    Ok(match kind {
        Kind::File => contents.data.len(),
        Kind::Directory => names(&contents.data)?.len(),
    })
}

/// Reads what can be a file's contents, and a byte more if there is more.
pub(crate) fn read_limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    from.take(MAX_PAYLOAD as u64 + 1).read_to_end(&mut data)?;
    Ok(data)
}

/// So that nothing is created for contents that cannot be written.
fn check_size(data: &[u8]) -> Result<(), Error> {
    if data.len() > MAX_PAYLOAD { Err(Error::Call(CallError::TooLarge)) } else { Ok(()) }
}
