//! What an operator should look at: a cell that the next failure stops, members that were never reached, and what holds
//! back the cell's version.

use super::report::{Member, Report};

impl Report {
    /// All of it, as far as this server can tell.
    pub(crate) fn find_warnings(&self) -> Vec<String> {
        let never = self.members.iter().filter_map(never_linked);
        self.without_spare().into_iter().chain(never).chain(self.unfit()).chain(self.held_back()).collect()
    }

    /// Whether the cell stops, or would when one more server fails. A cell of one is meant to be so.
    fn without_spare(&self) -> Option<String> {
        let voters = self.members.iter().filter(|member| member.votes);
        let (all, reached) = (voters.clone().count(), voters.filter(|member| member.is_reached()).count());
        let needed = all / 2 + 1;
        if all < 2 || reached > needed {
            return None;
        }
        Some(if reached < needed {
            format!(
                "{reached} of {all} voting servers are reached from here; without {needed} the cell does nothing"
            )
        } else {
            format!(
                "{reached} of {all} voting servers are reached from here, as many as the cell needs: it stops when one \
                 more fails"
            )
        })
    }

    /// Members that cannot apply what the cell has.
    fn unfit(&self) -> Option<String> {
        let unfit = |member: &&Member| member.can_apply.is_some_and(|can| !can.has(self.cell_version));
        let names = self.names(unfit)?;
        Some(format!("the cell has version {}, which cannot be applied by {names}", self.cell_version))
    }

    /// Members because of which the cell's version does not rise.
    fn held_back(&self) -> Option<String> {
        let here = self.members.iter().find(|member| member.here)?.can_apply?;
        if here.highest <= self.cell_version {
            return None;
        }
        let names =
            self.names(|member| member.can_apply.is_none_or(|can| can.highest <= self.cell_version))?;
        Some(format!(
            "the cell stays at version {} until all members are linked and can apply a higher one; these are not, or \
             cannot: {names}",
            self.cell_version
        ))
    }

    /// The members of which this is true; none if there are none.
    fn names(&self, is_one: impl Fn(&&Member) -> bool) -> Option<String> {
        let names: Vec<_> = self.members.iter().filter(is_one).map(|member| member.server.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

impl Member {
    /// Whether it is this server, or one that the master has heard of lately, or that is linked as far as others know.
    fn is_reached(&self) -> bool {
        self.here || self.alive.or(self.linked) == Some(true)
    }
}

/// A member with which there was no link since this server was started: its address may be wrong.
fn never_linked(member: &Member) -> Option<String> {
    if member.here || member.links != Some(0) {
        return None;
    }
    let place = member.peer.map_or_else(String::new, |address| format!(" at {address}"));
    Some(format!(
        "server {}{place} was not linked since this server was started: is that its address, and does it run?",
        member.server
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{Log, Role, Totals};
    use super::*;
    use crate::versions::Versions;

    fn member(server: &str) -> Member {
        Member {
            server: server.to_owned(),
            votes: true,
            peer: None,
            client: None,
            here: false,
            linked: Some(true),
            links: Some(1),
            can_apply: Some(Versions { lowest: 1, highest: 2 }),
            trouble: None,
            alive: None,
            lag: None,
            snapshot: None,
        }
    }

    fn report<const N: usize>(members: [Member; N]) -> Report {
        let [first, others @ ..] = &members[..] else { panic!("no member") };
        let here = Member { here: true, linked: None, links: None, ..first.clone() };
        Report {
            version: String::new(),
            cell: String::new(),
            cell_version: 2,
            server: String::new(),
            role: Role::Master,
            master: None,
            epoch: 1,
            term: 1,
            lease_ms: None,
            members: [&[here], others].concat(),
            totals: Totals { sessions: 0, handles: 0, inodes: 0, data: 0, claims: 0 },
            log: Log {
                first: 0,
                last: 0,
                commit: 0,
                applied: 0,
                digest: String::new(),
                confirmed: None,
                snapshot: None,
            },
            disk: None,
            warnings: Vec::new(),
        }
    }

    fn only(report: &Report) -> String {
        let [warning] = &report.find_warnings()[..] else { panic!("{:?}", report.find_warnings()) };
        warning.clone()
    }

    #[test]
    fn a_cell_in_order_has_none() {
        assert_eq!(report([member("a")]).find_warnings(), [""; 0], "one alone is meant to be so");
        assert_eq!(report([member("a"), member("b"), member("c")]).find_warnings(), [""; 0]);
    }

    #[test]
    fn a_cell_without_a_spare_server_is_told_and_so_is_one_without_a_majority() {
        let down = || Member { linked: Some(false), ..member("x") };
        let silent = || Member { alive: Some(false), ..member("x") };
        assert!(only(&report([member("a"), member("b")])).starts_with("2 of 2 voting servers"));
        assert!(only(&report([member("a"), member("b"), down()])).contains("stops when one more fails"));
        assert!(only(&report([member("a"), member("b"), silent()])).contains("stops when one more fails"));
        assert!(only(&report([member("a"), down(), silent()])).contains("without 2 the cell does nothing"));
        let five = report([member("a"), member("b"), member("c"), member("d"), down()]);
        assert_eq!(five.find_warnings(), [""; 0], "one more may fail");
        let learner = Member { votes: false, ..down() };
        assert_eq!(report([member("a"), learner]).find_warnings(), [""; 0], "it does not vote");
    }

    #[test]
    fn a_misspelt_address_is_told() {
        let peer = Some("192.0.2.3:9".parse().unwrap());
        let wrong = Member { linked: Some(false), links: Some(0), votes: false, peer, ..member("c") };
        let warning = only(&report([member("a"), wrong]));
        assert!(warning.starts_with("server c at 192.0.2.3:9 was not linked since"), "{warning}");
    }

    #[test]
    fn who_cannot_apply_the_version_or_holds_it_back_is_named() {
        let can = |lowest, highest| Some(Versions { lowest, highest });
        let old = Member { can_apply: can(1, 1), votes: false, ..member("c") };
        assert_eq!(
            only(&report([member("a"), old.clone()])),
            "the cell has version 2, which cannot be applied by c"
        );
        let newer = || Member { can_apply: can(2, 3), ..member("a") };
        let gone = Member { can_apply: None, ..old };
        let warning = only(&report([newer(), gone, Member { votes: false, ..member("d") }]));
        assert!(warning.contains("stays at version 2") && warning.ends_with("cannot: c, d"), "{warning}");
    }
}
