//! The servers of the suite: one, or a cell of several, of which a test asks any, or the master.

use std::cell::RefCell;
use std::net::SocketAddr;

use cld_tests::cell::Cell;
use cld_tests::raw::RawSession;
use cld_tests::raw::extended::{Extended, HELLO, Hello};
use cld_tests::rng::Rng;
use cld_tests::server::Cld;

/// The shortest lease that is granted, in milliseconds.
#[allow(dead_code, reason = "not each program has all of the suite")]
pub(crate) const SHORTEST: u32 = 2_000;

/// As many servers as the program's `SERVERS` says.
#[derive(Debug)]
pub(crate) struct Servers {
    kind: Kind,
    rng: RefCell<Rng>,
}

#[derive(Debug)]
enum Kind {
    One(Cld),
    Several(Cell),
}

#[allow(dead_code, reason = "not each program has all of the suite")]
impl Servers {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let kind = match crate::SERVERS {
            1 => Kind::One(Cld::start()),
            several => Kind::Several(Cell::start(several)),
        };
        Self { kind, rng: RefCell::new(Rng::fresh()) }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match &self.kind {
            Kind::One(cld) => vec![cld.address()],
            Kind::Several(cell) => cell.addresses(),
        }
    }

    /// The address of one of them, each time of another one.
    pub(crate) fn any(&self) -> SocketAddr {
        let all = self.addresses();
        all[self.rng.borrow_mut().below(all.len() as u64) as usize]
    }

    /// The address of the master.
    pub(crate) fn master(&self) -> SocketAddr {
        match &self.kind {
            Kind::One(cld) => cld.address(),
            Kind::Several(cell) => cell.servers[cell.master()].address(),
        }
    }

    /// The master.
    pub(crate) fn master_process(&mut self) -> &mut Cld {
        match &mut self.kind {
            Kind::One(cld) => cld,
            Kind::Several(cell) => {
                let master = cell.master();
                &mut cell.servers[master]
            }
        }
    }

    /// A new plain session of `user` with any of them, with the user's name for a key.
    #[track_caller]
    pub(crate) fn connect(&self, user: &str) -> RawSession {
        RawSession::connect(self.any(), user)
    }
}

/// An extended session of `user` with the master.
#[allow(dead_code, reason = "not each program has all of the suite")]
#[track_caller]
pub(crate) fn connect(servers: &Servers, user: &str) -> Extended {
    Extended::connect(servers.master(), user)
}

/// The same with the shortest lease.
#[allow(dead_code, reason = "not each program has all of the suite")]
#[track_caller]
pub(crate) fn connect_briefly(servers: &Servers, user: &str) -> Extended {
    let (session, welcome) =
        Extended::connect_with(servers.master(), user, Hello { lease: SHORTEST, ..HELLO });
    assert_eq!(welcome.lease, SHORTEST);
    session
}
