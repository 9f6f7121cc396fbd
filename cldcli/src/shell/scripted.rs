//! A session that answers from a script, and writes down what it was asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use cldc_udp::{
    Code, Contents, Error, EventMask, FileEvent, Handle, LockKind, Metadata, OpenMode, Result, Sequencer,
};

use crate::remote::{Remote, RemoteEvents, RemoteFile, Standing};

/// What comes of the next call.
pub(crate) enum Answer {
    Done,
    Contents { version: u64, data: Vec<u8> },
    Lock(Standing),
    Event(EventMask),
    Nothing,
    Error(Error),
}

/// See the module. Clones are the same session.
#[derive(Clone)]
pub(crate) struct Scripted {
    answers: Rc<RefCell<VecDeque<Answer>>>,
    calls: Rc<RefCell<Vec<String>>>,
}

impl Scripted {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Rc::new(RefCell::new(answers.into_iter().collect())), calls: Rc::default() }
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.answers.borrow().is_empty()
    }

    fn ask(&self, call: String) -> Result<Answer> {
        self.calls.borrow_mut().push(call);
        match self.answers.borrow_mut().pop_front() {
            Some(Answer::Error(error)) => Err(error),
            Some(answer) => Ok(answer),
            None => panic!("nothing is left of the script: {:?}", self.calls()),
        }
    }
}

pub(crate) struct ScriptedFile {
    session: Scripted,
    path: Vec<u8>,
    standing: Standing,
}

impl Remote for Scripted {
    type File = ScriptedFile;
    type Events = Self;

    fn open(&self, path: &[u8], mode: OpenMode, events: EventMask) -> Result<ScriptedFile> {
        let text = String::from_utf8_lossy(path);
        self.ask(format!("open {text} {:#x} {}", mode.0, events.0))?;
        Ok(ScriptedFile { session: self.clone(), path: path.to_vec(), standing: Standing::Failed })
    }

    fn remove(&self, path: &[u8], fence: Option<&Sequencer>) -> Result<()> {
        self.ask(format!("remove {}{}", String::from_utf8_lossy(path), under(fence))).map(drop)
    }

    fn check_sequencer(&self, sequencer: &Sequencer) -> Result<bool> {
        match self.ask(format!("check {sequencer}")) {
            Err(Error::Server(Code::Stale)) => Ok(false),
            checked => checked.map(|_| true),
        }
    }

    fn events(&self) -> Self {
        self.clone()
    }
}

impl RemoteFile for ScriptedFile {
    fn read(&self) -> Result<Contents> {
        match self.session.ask("read".into())? {
            Answer::Contents { version, data } => {
                let metadata = Metadata { inode: 50, version, ..Metadata::default() };
                Ok(Contents { metadata, path: self.path.clone(), data })
            }
            _ => panic!("the script has no contents for a read"),
        }
    }

    fn write(&self, data: &[u8], fence: Option<&Sequencer>) -> Result<()> {
        self.session.ask(format!("write {}{}", String::from_utf8_lossy(data), under(fence))).map(drop)
    }

    fn lock(&mut self, kind: LockKind, wait: bool) -> Result<Standing> {
        match self.session.ask(format!("lock {kind:?} {wait}"))? {
            Answer::Lock(standing) => {
                self.standing = standing;
                Ok(standing)
            }
            _ => panic!("the script has no standing for a lock"),
        }
    }

    fn standing(&self) -> Standing {
        self.standing
    }

    fn sequencer(&self) -> Option<Sequencer> {
        (self.standing == Standing::Held).then(|| "x:50:1:/a".parse().unwrap())
    }

    fn unlock(self) -> Result<()> {
        self.session.ask(format!("unlock {}", String::from_utf8_lossy(&self.path))).map(drop)
    }
}

fn under(fence: Option<&Sequencer>) -> String {
    fence.map(|sequencer| format!(" under {sequencer}")).unwrap_or_default()
}

impl RemoteEvents for Scripted {
    fn next(&mut self, _: Duration) -> Result<Option<FileEvent>> {
        Ok(match self.ask("next event".into())? {
            Answer::Event(EventMask::MASTER_FAILOVER) => Some(FileEvent {
                path: Vec::new(),
                handle: FileEvent::SESSION,
                events: EventMask::MASTER_FAILOVER,
                version: None,
                missed: 0,
            }),
            Answer::Event(events) => {
                let (path, handle) = (b"/a".to_vec(), Handle(1));
                Some(FileEvent { path, handle, events, version: Some(1), missed: 0 })
            }
            _ => None,
        })
    }
}
