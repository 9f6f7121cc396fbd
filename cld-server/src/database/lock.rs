//! Locks: whole-inode, shared or exclusive, first come first served (protocol.md 8, as a correct server does it).
//!
//! A lock is one queue of claims, in the order of their arrival. Who holds it is read off the queue: its first claim,
//! and, if that is shared, the shared claims that follow it without a gap. A newcomer goes to the end, so nobody
//! overtakes, and no flag says "pending" that could be stored wrongly.

use super::digest::{Digest, Item};
use imbl::OrdMap;

/// Who claims a lock: one handle of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The session.
    pub sid: u64,
    /// The handle.
    pub fh: u64,
}

/// A held or awaited lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who claims it.
    pub owner: Owner,
    /// Whether other shared claims may hold it at the same time.
    pub shared: bool,
}

/// What became of a request for a lock. A ticket names the claim until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The lock is held.
    Granted(u64),
    /// The claim waits in the queue.
    Queued(u64),
    /// The lock is not free, and waiting was not wanted: nothing changed.
    Conflict,
}

/// A lock that was granted to a claim that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) inode: u64,
    pub(super) owner: Owner,
}

/// What is kept of an inode's lock beside the queue, from its first grant until the inode goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// Rises at every grant to a lock that has no holder left (extensions.md 8).
    generation: u64,
    /// The ticket of the last claim that holds the lock, 0 if none: claims up to it hold, those above wait.
    granted: u64,
}

impl Claim {
    /// Its part of the digest.
    fn item(&self, inode: u64, ticket: u64) -> Digest {
        let Self { owner: Owner { sid, fh }, shared } = *self;
        Digest::of(Item::Claim, |out| {
            [inode, ticket, sid, fh].into_iter().for_each(|field| out.u64(field));
            out.bool(shared);
        })
    }
}

impl Head {
    /// Its part of the digest.
    fn item(&self, inode: u64) -> Digest {
        let Self { generation, granted } = *self;
        Digest::of(Item::Lock, |out| {
            [inode, generation, granted].into_iter().for_each(|field| out.u64(field))
        })
    }
}

/// All locks.
#[derive(Clone, Debug)]
pub(super) struct Locks {
    /// By inode and ticket.
    claims: OrdMap<(u64, u64), Claim>,
    heads: OrdMap<u64, Head>,
    /// Tickets are counted up over all locks and never reused.
    next_ticket: u64,
    /// That of all claims and heads.
    digest: Digest,
}

impl Locks {
    pub(super) fn new(next_ticket: u64) -> Self {
        Self { claims: OrdMap::new(), heads: OrdMap::new(), next_ticket, digest: Digest::default() }
    }

    /// Claims the lock of `inode`. With `wait`, the claim queues if it cannot hold at once.
    pub(super) fn request(&mut self, inode: u64, claim: Claim, wait: bool) -> Outcome {
        let granted = self.head(inode).granted;
        let free = match self.last_claim(inode, u64::MAX) {
            None => true,
            Some((ticket, last)) => claim.shared && last.shared && ticket <= granted,
        };
        if !free && !wait {
            return Outcome::Conflict;
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.saturating_add(1);
        self.set_claim(inode, ticket, Some(claim));
        if free {
            self.advance(inode);
            Outcome::Granted(ticket)
        } else {
            Outcome::Queued(ticket)
        }
    }

    /// Takes claims (inode and ticket) back, held or waiting, all at once; the claims that hold now and did not before.
    pub(super) fn release(&mut self, claims: &[(u64, u64)]) -> Vec<Grant> {
        for &(inode, ticket) in claims {
            self.set_claim(inode, ticket, None);
            if let Some(&head) = self.heads.get(&inode)
                && head.granted == ticket
            {
                let granted = self.last_claim(inode, ticket).map_or(0, |(previous, _)| previous);
                self.set_head(inode, Some(Head { granted, ..head }));
            }
        }
        let grants = claims.iter().flat_map(|&(inode, _)| self.advance(inode));
        grants.collect()
    }

    /// Forgets the lock of an inode that is deleted, with its whole queue.
    pub(super) fn forget(&mut self, inode: u64) {
        let tickets: Vec<u64> = self.queue(inode).map(|(ticket, _, _)| ticket).collect();
        for ticket in tickets {
            self.set_claim(inode, ticket, None);
        }
        self.set_head(inode, None);
    }

    /// The queue of an inode's lock in its order: ticket, claim, and whether it holds.
    pub(super) fn queue(&self, inode: u64) -> impl Iterator<Item = (u64, Claim, bool)> {
        let granted = self.head(inode).granted;
        let claims = self.claims.range((inode, 0)..=(inode, u64::MAX));
        claims.map(move |(&(_, ticket), &claim)| (ticket, claim, ticket <= granted))
    }

    /// The claim behind a ticket.
    pub(super) fn claim(&self, inode: u64, ticket: u64) -> Option<Claim> {
        self.claims.get(&(inode, ticket)).copied()
    }

    /// Whether a claim holds its lock.
    pub(super) fn holds(&self, inode: u64, ticket: u64) -> bool {
        ticket <= self.head(inode).granted && self.claims.contains_key(&(inode, ticket))
    }

    /// The generation of an inode's lock, 0 before its first grant.
    pub(super) fn generation(&self, inode: u64) -> u64 {
        self.head(inode).generation
    }

    /// The number of claims, held and waiting.
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    pub(super) const fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// The part of all locks in the digest.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// The same, worked out anew.
    pub(super) fn recomputed_digest(&self) -> Digest {
        let mut digest = Digest::default();
        for (&(inode, ticket), claim) in &self.claims {
            digest.add(claim.item(inode, ticket));
        }
        for (&inode, head) in &self.heads {
            digest.add(head.item(inode));
        }
        digest
    }

    /// Puts back a lock's generation from a snapshot; before its claims.
    pub(super) fn restore_generation(&mut self, inode: u64, generation: u64) {
        if generation > 0 {
            self.set_head(inode, Some(Head { generation, granted: 0 }));
        }
    }

    /// Puts back a claim from a snapshot, in any order; `false` if it contradicts the rest.
    pub(super) fn restore_claim(&mut self, inode: u64, ticket: u64, claim: Claim) -> bool {
        let known = self.heads.contains_key(&inode) && ticket > 0 && ticket < self.next_ticket;
        known && self.set_claim(inode, ticket, Some(claim)).is_none()
    }

    /// Finds the holders again, after all claims are put back.
    pub(super) fn restore_holders(&mut self) {
        let heads: Vec<(u64, u64)> =
            self.heads.iter().map(|(&inode, head)| (inode, head.generation)).collect();
        for (inode, generation) in heads {
            self.advance(inode);
            self.set_head(inode, Some(Head { generation, ..self.head(inode) }));
        }
    }

    fn head(&self, inode: u64) -> Head {
        self.heads.get(&inode).copied().unwrap_or_default()
    }

    /// Puts a claim in its place, or takes it away: the only way to do so. What was there.
    fn set_claim(&mut self, inode: u64, ticket: u64, claim: Option<Claim>) -> Option<Claim> {
        let before = match claim {
            Some(claim) => self.claims.insert((inode, ticket), claim),
            None => self.claims.remove(&(inode, ticket)),
        };
        before.iter().for_each(|before| self.digest.remove(before.item(inode, ticket)));
        claim.iter().for_each(|claim| self.digest.add(claim.item(inode, ticket)));
        before
    }

    /// The same for what is kept beside the queue.
    fn set_head(&mut self, inode: u64, head: Option<Head>) {
        let before = match head {
            Some(head) => self.heads.insert(inode, head),
            None => self.heads.remove(&inode),
        };
        before.iter().for_each(|before| self.digest.remove(before.item(inode)));
        head.iter().for_each(|head| self.digest.add(head.item(inode)));
    }

    /// The last claim on an inode, up to a ticket.
    fn last_claim(&self, inode: u64, ticket: u64) -> Option<(u64, Claim)> {
        let (key, claim) = self.claims.range((inode, 0)..=(inode, ticket)).next_back()?;
        Some((key.1, *claim))
    }

    /// Grants what can be granted to the waiting claims next to the holders.
    fn advance(&mut self, inode: u64) -> Vec<Grant> {
        let mut head = self.head(inode);
        // How the present holders hold, if there are any: all alike.
        let mut held = self.queue(inode).next().and_then(|(_, first, holds)| holds.then_some(first.shared));
        let mut grants = Vec::new();
        for (&(_, ticket), claim) in
            self.claims.range((inode, head.granted.saturating_add(1))..=(inode, u64::MAX))
        {
            match held {
                None => head.generation = head.generation.saturating_add(1),
                Some(shared) if shared && claim.shared => {}
                Some(_) => break,
            }
            held = Some(claim.shared);
            head.granted = ticket;
            grants.push(Grant { inode, owner: claim.owner });
        }
        if !grants.is_empty() {
            self.set_head(inode, Some(head));
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INODE: u64 = 51;

    fn claim(fh: u64, shared: bool) -> Claim {
        Claim { owner: Owner { sid: 1, fh }, shared }
    }

    /// The obvious lock: holders and waiters in two lists, searched from front to back.
    #[derive(Default)]
    struct Model {
        holders: Vec<Claim>,
        waiters: Vec<Claim>,
        generation: u64,
    }

    impl Model {
        fn request(&mut self, claim: Claim, wait: bool) -> &'static str {
            self.waiters.push(claim);
            if !self.grant().is_empty() {
                return "granted";
            }
            if wait {
                return "queued";
            }
            self.waiters.pop();
            "conflict"
        }

        fn release(&mut self, owner: Owner) -> Vec<Owner> {
            self.holders.retain(|claim| claim.owner != owner);
            self.waiters.retain(|claim| claim.owner != owner);
            self.grant()
        }

        fn grant(&mut self) -> Vec<Owner> {
            let mut granted = Vec::new();
            while let Some(&first) = self.waiters.first() {
                let compatible = first.shared && self.holders.iter().all(|holder| holder.shared);
                if !self.holders.is_empty() && !compatible {
                    break;
                }
                if self.holders.is_empty() {
                    self.generation += 1;
                }
                self.holders.push(self.waiters.remove(0));
                granted.push(first.owner);
            }
            granted
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Request { fh: u64, shared: bool, wait: bool },
        Release { fh: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..8u64, any::<bool>(), prop::bool::weighted(0.8))
                .prop_map(|(fh, shared, wait)| Step::Request { fh, shared, wait }),
            2 => (0..8u64).prop_map(|fh| Step::Release { fh }),
        ]
    }

    proptest! {
        #[test]
        fn a_lock_behaves_as_two_plain_lists_do(steps in prop::collection::vec(step(), 0..200)) {
            let mut locks = Locks::new(1);
            let mut model = Model::default();
            let mut tickets = std::collections::BTreeMap::new();
            // A neighbour on each side, to see that inodes do not mix.
            locks.request(INODE - 1, claim(100, false), true);
            locks.request(INODE + 1, claim(101, false), true);
            for step in steps {
                match step {
                    Step::Request { fh, .. } if tickets.contains_key(&fh) => continue,
                    Step::Request { fh, shared, wait } => {
                        let (ticket, outcome) = match locks.request(INODE, claim(fh, shared), wait) {
                            Outcome::Granted(ticket) => (Some(ticket), "granted"),
                            Outcome::Queued(ticket) => (Some(ticket), "queued"),
                            Outcome::Conflict => (None, "conflict"),
                        };
                        tickets.extend(ticket.map(|ticket| (fh, ticket)));
                        prop_assert_eq!(outcome, model.request(claim(fh, shared), wait));
                    }
                    Step::Release { fh } => {
                        let released: Vec<_> = tickets.remove(&fh).map(|ticket| (INODE, ticket)).into_iter().collect();
                        let grants: Vec<_> = locks.release(&released).iter().map(|grant| grant.owner).collect();
                        prop_assert_eq!(grants, model.release(Owner { sid: 1, fh }));
                    }
                }
                let (holders, waiters): (Vec<_>, Vec<_>) = locks.queue(INODE).partition(|(_, _, holds)| *holds);
                let claims = |side: Vec<(u64, Claim, bool)>| side.into_iter().map(|(_, c, _)| c).collect::<Vec<_>>();
                prop_assert_eq!(claims(holders), model.holders.clone());
                prop_assert_eq!(claims(waiters), model.waiters.clone());
                prop_assert_eq!(locks.generation(INODE), model.generation);
            }
            locks.forget(INODE);
            prop_assert_eq!((locks.len(), locks.generation(INODE)), (2, 0));
        }
    }

    #[test]
    fn claims_released_together_are_not_granted_to_each_other() {
        let mut locks = Locks::new(1);
        let Outcome::Granted(first) = locks.request(INODE, claim(1, false), true) else { panic!() };
        let Outcome::Queued(second) = locks.request(INODE, claim(2, false), true) else { panic!() };
        let Outcome::Queued(_) = locks.request(INODE, claim(3, false), true) else { panic!() };
        let grants = locks.release(&[(INODE, first), (INODE, second)]);
        assert_eq!(grants, [Grant { inode: INODE, owner: Owner { sid: 1, fh: 3 } }]);
        assert_eq!(locks.generation(INODE), 2);
    }
}
