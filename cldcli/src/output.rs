//! What goes to standard output: for a person, or as JSON with one object on a line.

use std::io::Write;

use cldc_udp::{Contents, LockKind, Sequencer};
use serde::Serialize;

use crate::bytes::Text;
use crate::date::Date;
use crate::failure::Failure;
use crate::remote::Standing;

/// For whom the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A person, or a script that reads Hail's output.
    Human,
    /// A program.
    Json,
}

/// Standard output, or what stands for it in a test.
pub(crate) struct Output<W> {
    to: W,
    format: Format,
}

/// What a file or directory is.
#[derive(Debug, Serialize)]
pub(crate) struct Stat {
    path: Text,
    #[serde(rename = "type")]
    kind: Kind,
    inode: u64,
    version: u64,
    /// Bytes in a file; entries in a directory.
    size: usize,
    created: Date,
    modified: Date,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    File,
    Directory,
}

impl Stat {
    pub(crate) fn new(contents: &Contents, kind: Kind, size: usize) -> Self {
        let about = &contents.metadata;
        Self {
            path: contents.path.clone().into(),
            kind,
            inode: about.inode,
            version: about.version,
            size,
            created: Date::from_secs(about.created),
            modified: Date::from_secs(about.modified),
        }
    }
}

/// Something that `watch` tells.
#[derive(Debug, Serialize)]
pub(crate) struct Change<'a> {
    pub(crate) time: Date,
    pub(crate) event: &'a str,
    pub(crate) path: Text,
    #[serde(flatten)]
    pub(crate) state: Option<State>,
}

/// A file as `watch` saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) size: usize,
}

/// A lock of this session, as `lock` and `list locks` tell of it.
#[derive(Debug, Serialize)]
pub(crate) struct LockLine {
    lock: u64,
    path: Text,
    state: &'static str,
    /// As others can be shown it, of a lock that is held; none from a plain server.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer: Option<Text>,
}

impl LockLine {
    pub(crate) fn new(number: u64, path: &[u8], standing: Standing, held: Option<&Sequencer>) -> Self {
        let state = match standing {
            Standing::Held => "held",
            Standing::Queued => "queued",
            Standing::Failed => "failed",
        };
        let sequencer = held.map(|sequencer| sequencer.to_bytes().into());
        Self { lock: number, path: path.to_vec().into(), state, sequencer }
    }
}

/// A sequencer, taken apart.
#[derive(Serialize)]
struct Parts {
    sequencer: Text,
    kind: &'static str,
    inode: u64,
    generation: u64,
    path: Text,
}

#[derive(Serialize)]
struct Listing<T> {
    path: Text,
    entries: Vec<T>,
}

#[derive(Serialize)]
struct Locks {
    locks: Vec<LockLine>,
}

#[derive(Serialize)]
struct File {
    #[serde(flatten)]
    stat: Stat,
    data: Text,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(to: W, format: Format) -> Self {
        Self { to, format }
    }

    /// Writes bytes as they are, at once.
    pub(crate) fn raw(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        let mut write = || {
            for part in parts {
                self.to.write_all(part)?;
            }
            self.to.flush()
        };
        write().map_err(Failure::Output)
    }

    /// The names in a directory.
    pub(crate) fn listing(&mut self, path: &[u8], names: Vec<&[u8]>) -> Result<(), Failure> {
        match self.format {
            Format::Human => {
                self.raw(&[&names.iter().flat_map(|name| [*name, b"\n"].concat()).collect::<Vec<_>>()])
            }
            Format::Json => {
                let entries = names.into_iter().map(|name| Text::from(name.to_vec())).collect();
                self.json(&Listing { path: path.to_vec().into(), entries })
            }
        }
    }

    /// A file's contents, as they are.
    pub(crate) fn file(&mut self, contents: Contents) -> Result<(), Failure> {
        match self.format {
            Format::Human => self.raw(&[&contents.data]),
            Format::Json => {
                let stat = Stat::new(&contents, Kind::File, contents.data.len());
                self.json(&File { stat, data: contents.data.into() })
            }
        }
    }

    /// What a file is.
    pub(crate) fn stat(&mut self, stat: &Stat) -> Result<(), Failure> {
        if self.format == Format::Json {
            return self.json(stat);
        }
        let (kind, unit) = match stat.kind {
            Kind::File => ("file", "bytes"),
            Kind::Directory => ("directory", "entries"),
        };
        self.raw(&[format!(
            "path      {}\ntype      {kind}\nsize      {} {unit}\nversion   {}\ninode     {}\ncreated   {}\n\
             modified  {}\n",
            stat.path, stat.size, stat.version, stat.inode, stat.created, stat.modified,
        )
        .as_bytes()])
    }

    /// Something that happened to a watched file.
    pub(crate) fn change(&mut self, change: &Change<'_>) -> Result<(), Failure> {
        if self.format == Format::Json {
            return self.json(change);
        }
        let Change { time, event, path, state } = change;
        let line = match state {
            Some(State { version, size }) => {
                format!("{time} {path} {event}: version {version}, size {size}\n")
            }
            None => format!("{time} {path} {event}\n"),
        };
        self.raw(&[line.as_bytes()])
    }

    /// A sequencer that stands. A person is told by the exit status.
    pub(crate) fn stands(&mut self, sequencer: &Sequencer) -> Result<(), Failure> {
        if self.format == Format::Human {
            return Ok(());
        }
        let kind = match sequencer.kind {
            LockKind::Exclusive => "exclusive",
            LockKind::Shared => "shared",
        };
        let &Sequencer { inode, generation, .. } = sequencer;
        let path = sequencer.path.clone().into();
        self.json(&Parts { sequencer: sequencer.to_bytes().into(), kind, inode, generation, path })
    }

    /// What came of asking for a lock. A person hears nothing of one that is held, as in Hail.
    pub(crate) fn lock(&mut self, lock: &LockLine, standing: Standing) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(lock),
            Format::Human if standing == Standing::Held => Ok(()),
            Format::Human => self.raw(&[format!("lock {} queued\n", lock.lock).as_bytes()]),
        }
    }

    /// All locks of the session.
    pub(crate) fn locks(&mut self, locks: Vec<LockLine>) -> Result<(), Failure> {
        if self.format == Format::Json {
            return self.json(&Locks { locks });
        }
        for LockLine { lock, path, .. } in &locks {
            self.raw(&[lock.to_string().as_bytes(), b" ", path.as_bytes(), b"\n"])?;
        }
        Ok(())
    }

    fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(|error| Failure::Output(error.into()))?;
        line.push(b'\n');
        self.raw(&[&line])
    }
}

#[cfg(test)]
mod tests {
    use cldc_udp::Metadata;

    use super::*;

    fn shown(format: Format, show: impl FnOnce(&mut Output<&mut Vec<u8>>) -> Result<(), Failure>) -> String {
        let mut bytes = Vec::new();
        show(&mut Output::new(&mut bytes, format)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn contents() -> Contents {
        let metadata =
            Metadata { inode: 77, version: 3, created: 0, modified: 1_000_000_000, ..Metadata::default() };
        Contents { metadata, path: b"/a".to_vec(), data: b"hi\n".to_vec() }
    }

    #[test]
    fn a_file_is_its_bytes_or_an_object() {
        assert_eq!(shown(Format::Human, |output| output.file(contents())), "hi\n");
        assert_eq!(
            shown(Format::Json, |output| output.file(contents())),
            "{\"path\":\"/a\",\"type\":\"file\",\"inode\":77,\"version\":3,\"size\":3,\
             \"created\":\"1970-01-01T00:00:00Z\",\"modified\":\"2001-09-09T01:46:40Z\",\"data\":\"hi\\n\"}\n"
        );
    }

    #[test]
    fn stat_is_a_line_for_each_thing() {
        let stat = Stat::new(&contents(), Kind::Directory, 2);
        assert_eq!(
            shown(Format::Human, |output| output.stat(&stat)),
            "path      /a\ntype      directory\nsize      2 entries\nversion   3\ninode     77\n\
             created   1970-01-01T00:00:00Z\nmodified  2001-09-09T01:46:40Z\n"
        );
    }

    #[test]
    fn names_are_lines_or_an_array_whatever_bytes_they_have() {
        let names = vec![b"a".as_slice(), b"b c", b"\xff"];
        let mut bytes = Vec::new();
        Output::new(&mut bytes, Format::Human).listing(b"/", names.clone()).unwrap();
        assert_eq!(bytes, b"a\nb c\n\xff\n");
        assert_eq!(
            shown(Format::Json, |output| output.listing(b"/", names)),
            "{\"path\":\"/\",\"entries\":[\"a\",\"b c\",{\"base64\":\"/w==\"}]}\n"
        );
    }

    #[test]
    fn a_sequencer_that_stands_is_an_object_or_nothing() {
        let held = "s:51:3:/l".parse().unwrap();
        assert_eq!(shown(Format::Human, |output| output.stands(&held)), "");
        assert_eq!(
            shown(Format::Json, |output| output.stands(&held)),
            "{\"sequencer\":\"s:51:3:/l\",\"kind\":\"shared\",\"inode\":51,\"generation\":3,\"path\":\"/l\"}\n"
        );
    }

    #[test]
    fn a_lock_has_its_sequencer_in_json_if_there_is_one() {
        let held = "x:51:3:/l".parse().unwrap();
        let line = |held| LockLine::new(2, b"/l", Standing::Held, held);
        assert_eq!(
            shown(Format::Json, |output| output.lock(&line(Some(&held)), Standing::Held)),
            "{\"lock\":2,\"path\":\"/l\",\"state\":\"held\",\"sequencer\":\"x:51:3:/l\"}\n"
        );
        assert_eq!(
            shown(Format::Json, |output| output.lock(&line(None), Standing::Held)),
            "{\"lock\":2,\"path\":\"/l\",\"state\":\"held\"}\n"
        );
    }

    #[test]
    fn changes_have_time_version_and_size() {
        let mut change = Change {
            time: Date::from_secs(60),
            event: "updated",
            path: b"/a".to_vec().into(),
            state: Some(State { version: 4, size: 9 }),
        };
        let human = shown(Format::Human, |output| output.change(&change));
        assert_eq!(human, "1970-01-01T00:01:00Z /a updated: version 4, size 9\n");
        assert_eq!(
            shown(Format::Json, |output| output.change(&change)),
            "{\"time\":\"1970-01-01T00:01:00Z\",\"event\":\"updated\",\"path\":\"/a\",\"version\":4,\"size\":9}\n"
        );
        change.state = None;
        change.event = "deleted";
        assert_eq!(
            shown(Format::Human, |output| output.change(&change)),
            "1970-01-01T00:01:00Z /a deleted\n"
        );
    }
}
