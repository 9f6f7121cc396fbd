//! What a server says that is not the master: who is, and which servers there are, to clients of extended sessions
//! (docs/protocol.md 7.5). What plain clients say is passed on to the master; if nobody has been that for long, they get
//! Hail's NOT_MASTER.

use std::net::SocketAddr;

use cldc_core::time::Instant;
use cldc_core::wire::extended::Master;
use cldc_core::wire::{Op, Part};

use super::admission::hello_of;
use super::extended::packet_size;
use super::refusals::{Refusal, What};
use super::{Endpoint, Via};
use crate::database::Users;

/// The body of a NOT_MASTER without an address, and how much longer one makes it.
const BODY: usize = 12;
const fn address_size(address: SocketAddr) -> usize {
    if address.is_ipv4() { 8 } else { 20 }
}

/// What a server that is not the master knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookout {
    /// Who the master is.
    pub master: Master,
    /// Nobody has been the master for so long that plain clients should know.
    pub is_vacant: bool,
}

impl Endpoint {
    /// Takes in a datagram at a server that is not the master. Gives whether a plain client has sent it that it is to be
    /// passed on for; all others that are in order are answered.
    pub fn redirect(
        &mut self,
        now: Instant,
        users: &Users,
        (via, from): (Via, SocketAddr),
        datagram: &[u8],
        Lookout { master, is_vacant }: Lookout,
    ) -> bool {
        let Some((user, packet)) = self.authentic(users, datagram) else { return false };
        if self.closing {
            return false;
        }
        let op = packet.part.op();
        let opens = op == Some(Op::NewSess) && hello_of(&packet).is_some();
        let xid = match packet.part {
            Part::Only { xid, .. } | Part::First { xid, .. } => xid,
            Part::Middle | Part::Last => 0,
        };
        let (to, sid, number) = (from, packet.sid, packet.number);
        let refusal = |what| Refusal { via, to, sid, user, op: Op::NotMaster, xid, number, what };
        if packet.rider.is_none() && op != Some(Op::Resume) && !opens {
            if is_vacant && op != Some(Op::Ack) {
                self.queue_refusal(now, refusal(What::NoMaster));
            }
            return !is_vacant;
        }
        // It is never longer than what it answers: the packet may be a recording, sent from a victim's address.
        let fits = |body: usize| packet_size(&user, body) <= packet.size();
        let with = |address: SocketAddr| BODY.saturating_add(address_size(address));
        let address = master.address.filter(|&address| fits(with(address)));
        if fits(BODY) {
            let sizes = self.config.members().iter().map(|&server| address_size(server));
            let list = sizes.fold(4, usize::saturating_add);
            let lists = fits(address.map_or(BODY, with).saturating_add(list));
            self.queue_refusal(now, refusal(What::NotMaster { master: Master { address, ..master }, lists }));
        }
        false
    }
}
