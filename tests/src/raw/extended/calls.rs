//! Requests of an extended session, in one call each: what is sent, and what its answer brings.

use super::super::codes::{code, mode, op};
use super::super::xdr::put_opaque;
use super::super::{Answer, Node, Request};
use super::{Extended, Reply, Sequencer};

impl Extended {
    /// OPEN: the handle.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn open(&mut self, path: &str, mode: u32, events: u32) -> u64 {
        let reply = self.call(&Request::Open { mode, events, path: path.into() });
        match Answer::decode(reply.message.op, &reply.message.body) {
            Ok(Answer::Opened { fh, .. }) => fh,
            other => panic!("OPEN {path}: {other:?}"),
        }
    }

    /// OPEN of a file that is created if it is missing, for reading, writing and locking, with all events.
    #[track_caller]
    pub fn create(&mut self, path: &str) -> u64 {
        self.open(path, mode::READ | mode::WRITE | mode::LOCK | mode::CREATE, 7)
    }

    /// GET: metadata and contents.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn get(&mut self, fh: u64) -> Node {
        let reply = self.call(&Request::Get { fh });
        match Answer::decode(reply.message.op, &reply.message.body) {
            Ok(Answer::Contents { node, .. }) => node,
            other => panic!("GET: {other:?}"),
        }
    }

    /// PUT: the code.
    #[track_caller]
    pub fn put(&mut self, fh: u64, data: &[u8]) -> i32 {
        self.call(&Request::Put { fh, data: data.to_vec() }).code
    }

    /// LOCK: the sequencer.
    ///
    /// # Errors
    /// The code, if it is not OK.
    #[track_caller]
    pub fn lock(&mut self, fh: u64, flags: u32) -> Result<Sequencer, i32> {
        granted(&self.call(&Request::Lock { fh, flags }))
    }

    /// UNLOCK: the code.
    #[track_caller]
    pub fn unlock(&mut self, fh: u64) -> i32 {
        self.call(&Request::Unlock { fh }).code
    }

    /// GET_SEQUENCER: the sequencer.
    ///
    /// # Errors
    /// The code, if it is not OK.
    #[track_caller]
    pub fn get_sequencer(&mut self, fh: u64) -> Result<Sequencer, i32> {
        granted(&self.call_raw(op::GET_SEQUENCER, &fh.to_be_bytes()))
    }

    /// CHECK_SEQUENCER: the code.
    #[track_caller]
    pub fn check_sequencer(&mut self, sequencer: &Sequencer) -> i32 {
        self.call_raw(op::CHECK_SEQUENCER, &sequencer.encode()).code
    }

    /// PUT_FENCED: the code.
    #[track_caller]
    pub fn put_fenced(&mut self, sequencer: &Sequencer, fh: u64, data: &[u8]) -> i32 {
        let mut body = sequencer.encode();
        body.extend(Request::Put { fh, data: data.to_vec() }.encode());
        self.call_raw(op::PUT_FENCED, &body).code
    }

    /// DEL_FENCED: the code.
    #[track_caller]
    pub fn del_fenced(&mut self, sequencer: &Sequencer, path: &str) -> i32 {
        let mut body = sequencer.encode();
        put_opaque(&mut body, path.as_bytes());
        self.call_raw(op::DEL_FENCED, &body).code
    }
}

#[track_caller]
fn granted(reply: &Reply) -> Result<Sequencer, i32> {
    if reply.code == code::OK { Ok(reply.sequencer()) } else { Err(reply.code) }
}
