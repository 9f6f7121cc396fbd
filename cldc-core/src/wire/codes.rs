//! The numbers of the protocol and their names: operations, result codes, flags (protocol.md 3).
//!
//! Numbers below 64 (flags below 0x100) are Hail's. Those from there on are ours (extensions.md, Rules).

/// Declares an enum whose values are numbers on the wire; a number without a name survives as `Unknown`.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vmeta])* $variant,)*
            /// A number that this version has no name for.
            Unknown(i32),
        }

        impl $name {
            /// Every value that has a name, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The value that a number on the wire stands for.
            #[must_use]
            pub const fn from_wire(value: i32) -> Self {
                match value {
                    $($value => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn to_wire(self) -> i32 {
                match self {
                    $(Self::$variant => $value,)*
                    Self::Unknown(other) => other,
                }
            }

            /// The name as the protocol's documents write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                    Self::Unknown(_) => "UNKNOWN",
                }
            }
        }
    };
}

wire_enum! {
    /// What a message asks for or tells.
    Op {
        /// Does nothing, and renews the lease.
        Nop = 0 "NOP",
        /// Begins a session.
        NewSess = 1 "NEW_SESS",
        /// Opens, or creates, a file or directory.
        Open = 2 "OPEN",
        /// Reads the metadata of a file.
        GetMeta = 3 "GET_META",
        /// Reads a file with its metadata; its reply also answers [`Op::GetMeta`].
        Get = 4 "GET",
        /// Replaces the contents of a file.
        Put = 6 "PUT",
        /// Closes a handle, and releases its lock.
        Close = 7 "CLOSE",
        /// Deletes a file or an empty directory.
        Del = 8 "DEL",
        /// Takes a lock, or queues for it.
        Lock = 9 "LOCK",
        /// Releases a lock, or leaves its queue.
        Unlock = 10 "UNLOCK",
        /// Takes a lock if that needs no waiting.
        TryLock = 11 "TRYLOCK",
        /// Acknowledges one packet of the server.
        Ack = 12 "ACK",
        /// Ends the session.
        EndSess = 13 "END_SESS",
        /// The server asks whether the client is there.
        Ping = 14 "PING",
        /// This server cannot serve: another one is the master.
        NotMaster = 15 "NOT_MASTER",
        /// Something happened to a handle.
        Event = 16 "EVENT",
        /// Acknowledges one piece of a client's message.
        AckFrag = 17 "ACK_FRAG",
        /// Extended: goes on with a session, from another address or at another server.
        Resume = 64 "RESUME",
        /// Extended: asks for the sequencer of a lock that is held.
        GetSequencer = 65 "GET_SEQUENCER",
        /// Extended: asks whether a sequencer stands.
        CheckSequencer = 66 "CHECK_SEQUENCER",
        /// Extended: PUT, unless the sequencer is stale.
        PutFenced = 67 "PUT_FENCED",
        /// Extended: DEL, unless the sequencer is stale.
        DelFenced = 68 "DEL_FENCED",
    }
}

wire_enum! {
    /// The result of a request, as the server reports it (`CLE_*`).
    Code {
        /// Success.
        Ok = 0 "OK",
        /// A session of this id exists.
        SessExists = 1 "SESS_EXISTS",
        /// No such session, or not from this user or address.
        SessInval = 2 "SESS_INVAL",
        /// The server's database failed.
        DbErr = 3 "DB_ERR",
        /// The message does not decode.
        BadPkt = 4 "BAD_PKT",
        /// The file behind the handle is gone.
        InodeInval = 5 "INODE_INVAL",
        /// The path is malformed, or names nothing.
        NameInval = 6 "NAME_INVAL",
        /// The server is out of memory.
        Oom = 7 "OOM",
        /// No such handle in this session.
        FhInval = 8 "FH_INVAL",
        /// Malformed data (never sent by Hail).
        DataInval = 9 "DATA_INVAL",
        /// The handle holds no lock and waits for none.
        LockInval = 10 "LOCK_INVAL",
        /// The lock is held, or this handle already holds it or waits for it.
        LockConflict = 11 "LOCK_CONFLICT",
        /// The request waits in the lock's queue; an event will tell when it is granted.
        LockPending = 12 "LOCK_PENDING",
        /// The handle was not opened for this operation.
        ModeInval = 13 "MODE_INVAL",
        /// The file exists.
        InodeExists = 14 "INODE_EXISTS",
        /// The directory has entries.
        DirNotEmpty = 15 "DIR_NOTEMPTY",
        /// The server failed in a way that it has no code for.
        InternalErr = 16 "INTERNAL_ERR",
        /// The session timed out (made by the client, never on the wire).
        Timeout = 17 "TIMEOUT",
        /// The packet's HMAC does not verify.
        SigInval = 18 "SIG_INVAL",
        /// The contents, or the directory's list, are larger than the receiver takes.
        TooLarge = 64 "TOO_LARGE",
        /// A limit of the server is reached: sessions, handles, total data.
        Limit = 65 "LIMIT",
        /// The sequencer does not stand any more: its lock was released, or granted anew.
        Stale = 66 "STALE",
        /// The server asks for proof that the client is there now; not an end of anything.
        Challenge = 67 "CHALLENGE",
        /// The server does not know the operation.
        Unsupported = 68 "UNSUPPORTED",
    }
}

impl Code {
    /// The code in words. Codes that Hail has carry the words of its library.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::SessExists => "Session exists",
            Self::SessInval => "Invalid session",
            Self::DbErr => "Database error",
            Self::BadPkt => "Invalid/corrupted packet",
            Self::InodeInval => "Invalid inode number",
            Self::NameInval => "Invalid file name",
            Self::Oom => "Server out of memory",
            Self::FhInval => "Invalid file handle",
            Self::DataInval => "Invalid data packet",
            Self::LockInval => "Invalid lock",
            Self::LockConflict => "Conflicting lock held",
            Self::LockPending => "Lock waiting to be acquired",
            Self::ModeInval => "Operation incompatible with file mode",
            Self::InodeExists => "File exists",
            Self::DirNotEmpty => "Directory not empty",
            Self::InternalErr => "Internal error",
            Self::Timeout => "Session timed out",
            Self::SigInval => "Bad HMAC signature",
            Self::TooLarge => "Too large for the receiver",
            Self::Limit => "Limit of the server reached",
            Self::Stale => "Stale sequencer",
            Self::Challenge => "Proof of presence wanted",
            Self::Unsupported => "Operation not supported by the server",
            Self::Unknown(_) => "(unknown)",
        }
    }
}

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown(number) => write!(f, "unknown code {number}"),
            known => write!(f, "{} ({})", known.describe(), known.name()),
        }
    }
}

/// Declares a set of flag bits; bits without a name are kept as they came.
macro_rules! wire_flags {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $flag:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);
            $($(#[$vmeta])* pub const $flag: Self = Self($value);)*

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            #[must_use]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// The bits of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The bits of `self` that `other` does not have.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }
    };
}

wire_flags! {
    /// How a file is opened (`COM_*`).
    OpenMode {
        /// Contents and metadata may be read.
        READ = 1,
        /// Contents may be replaced.
        WRITE = 2,
        /// The lock may be taken.
        LOCK = 4,
        /// Access control may be changed.
        ACL = 8,
        /// The file is created if it does not exist.
        CREATE = 0x10,
        /// With [`OpenMode::CREATE`]: fails if the file exists.
        EXCL = 0x20,
        /// A directory is meant.
        DIRECTORY = 0x40,
    }
}

wire_flags! {
    /// What happened to a handle, or what it wants to hear of (`CE_*`).
    EventMask {
        /// The contents changed: a write, or in a directory a child created or deleted.
        UPDATED = 1,
        /// The file was deleted.
        DELETED = 2,
        /// A lock that was waited for is granted.
        LOCKED = 4,
        /// Another server is the master now: read again what is cached.
        MASTER_FAILOVER = 8,
        /// The session is gone.
        SESS_FAILED = 0x10,
    }
}

wire_flags! {
    /// How a lock is taken (`CLF_*`).
    LockFlags {
        /// Shared with other shared holders; otherwise exclusive.
        SHARED = 1,
    }
}

wire_flags! {
    /// What an inode is (`CIFL_*`).
    InodeFlags {
        /// A directory.
        DIR = 1,
    }
}
