//! The numbers of protocol.md 3, as they are on the wire.

/// Operations.
#[expect(missing_docs, reason = "the names are those of protocol.md 3")]
pub mod op {
    pub const NOP: i32 = 0;
    pub const NEW_SESS: i32 = 1;
    pub const OPEN: i32 = 2;
    pub const GET_META: i32 = 3;
    pub const GET: i32 = 4;
    pub const PUT: i32 = 6;
    pub const CLOSE: i32 = 7;
    pub const DEL: i32 = 8;
    pub const LOCK: i32 = 9;
    pub const UNLOCK: i32 = 10;
    pub const TRYLOCK: i32 = 11;
    pub const ACK: i32 = 12;
    pub const END_SESS: i32 = 13;
    pub const PING: i32 = 14;
    pub const NOT_MASTER: i32 = 15;
    pub const EVENT: i32 = 16;
    pub const ACK_FRAG: i32 = 17;
    pub const RESUME: i32 = 64;
    pub const GET_SEQUENCER: i32 = 65;
    pub const CHECK_SEQUENCER: i32 = 66;
    pub const PUT_FENCED: i32 = 67;
    pub const DEL_FENCED: i32 = 68;

    /// The name of an operation, as the captured packets spell it.
    #[must_use]
    pub fn name(op: i32) -> &'static str {
        match op {
            NOP => "NOP",
            NEW_SESS => "NEW_SESS",
            OPEN => "OPEN",
            GET_META => "GET_META",
            GET => "GET",
            PUT => "PUT",
            CLOSE => "CLOSE",
            DEL => "DEL",
            LOCK => "LOCK",
            UNLOCK => "UNLOCK",
            TRYLOCK => "TRYLOCK",
            ACK => "ACK",
            END_SESS => "END_SESS",
            PING => "PING",
            NOT_MASTER => "NOT_MASTER",
            EVENT => "EVENT",
            ACK_FRAG => "ACK_FRAG",
            RESUME => "RESUME",
            GET_SEQUENCER => "GET_SEQUENCER",
            CHECK_SEQUENCER => "CHECK_SEQUENCER",
            PUT_FENCED => "PUT_FENCED",
            DEL_FENCED => "DEL_FENCED",
            _ => "(unknown op)",
        }
    }
}

/// Results of requests (`CLE_*`).
#[expect(missing_docs, reason = "the names are those of protocol.md 3")]
pub mod code {
    pub const OK: i32 = 0;
    pub const SESS_EXISTS: i32 = 1;
    pub const SESS_INVAL: i32 = 2;
    pub const DB_ERR: i32 = 3;
    pub const BAD_PKT: i32 = 4;
    pub const INODE_INVAL: i32 = 5;
    pub const NAME_INVAL: i32 = 6;
    pub const OOM: i32 = 7;
    pub const FH_INVAL: i32 = 8;
    pub const DATA_INVAL: i32 = 9;
    pub const LOCK_INVAL: i32 = 10;
    pub const LOCK_CONFLICT: i32 = 11;
    pub const LOCK_PENDING: i32 = 12;
    pub const MODE_INVAL: i32 = 13;
    pub const INODE_EXISTS: i32 = 14;
    pub const DIR_NOTEMPTY: i32 = 15;
    pub const INTERNAL_ERR: i32 = 16;
    pub const SIG_INVAL: i32 = 18;
    /// Ours, not of Hail: the contents do not fit (docs/protocol.md 2).
    pub const TOO_LARGE: i32 = 64;
    /// Ours, not of Hail: a limit of the server is reached.
    pub const LIMIT: i32 = 65;
    /// Of extended sessions: the sequencer is not of a lock that is held.
    pub const STALE: i32 = 66;
    /// Of extended sessions: RESUME wants the cookie that follows.
    pub const CHALLENGE: i32 = 67;
    /// Of extended sessions: no such operation.
    pub const UNSUPPORTED: i32 = 68;
}

/// How a file is opened (`COM_*`).
#[expect(missing_docs, reason = "the names are those of protocol.md 3")]
pub mod mode {
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const LOCK: u32 = 4;
    pub const ACL: u32 = 8;
    pub const CREATE: u32 = 0x10;
    pub const EXCL: u32 = 0x20;
    pub const DIRECTORY: u32 = 0x40;
}

/// What happened to a handle (`CE_*`).
#[expect(missing_docs, reason = "the names are those of protocol.md 3")]
pub mod event {
    pub const UPDATED: u32 = 1;
    pub const DELETED: u32 = 2;
    pub const LOCKED: u32 = 4;
    pub const MASTER_FAILOVER: u32 = 8;
}

/// How a lock is taken (`CLF_*`).
#[expect(missing_docs, reason = "the names are those of protocol.md 3")]
pub mod lock {
    pub const EXCLUSIVE: u32 = 0;
    pub const SHARED: u32 = 1;
}
