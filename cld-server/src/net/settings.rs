//! What an operator asks of users and limits: any server tells them, the master alone changes them.

use tokio::sync::oneshot;

use super::admin::{Reply, refused};
use super::questions::{not_master, refuse, tell};
use crate::admin::{Answer, Change};
use crate::database::{LimitKind, Setting, SettingError, UserName};
use crate::keys::file::check_name;
use crate::node::{Clock, Node, SetError};

/// As many names are told at once: they fit in an answer.
const NAMES: usize = 500;

/// The changes that are under way.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    ticket: u64,
    /// What is told when it is done.
    done: String,
    reply: oneshot::Sender<Reply>,
}

impl Settings {
    /// Has the node make a change, to be answered later.
    pub(super) fn change(
        &mut self,
        node: &mut Node,
        clock: Clock,
        change: Change,
        reply: oneshot::Sender<Reply>,
    ) {
        match begin(node, clock, change) {
            Ok((ticket, done)) => {
                self.pending.retain(|pending| !pending.reply.is_closed());
                self.pending.push(Pending { ticket, done, reply });
            }
            Err(answer) => tell(reply, Reply::Answer(answer)),
        }
    }

    /// What came of a change.
    pub(super) fn was_set(&mut self, ticket: u64, result: Result<(), SettingError>) {
        let Some(at) = self.pending.iter().position(|pending| pending.ticket == ticket) else { return };
        let Pending { done, reply, .. } = self.pending.swap_remove(at);
        let answer = match result {
            Ok(()) => Answer::Done { what: done },
            Err(error) => refuse(error.to_string()),
        };
        tell(reply, Reply::Answer(answer));
    }

    /// Another server is the master, or may be soon.
    pub(super) fn deposed(&mut self) {
        for Pending { reply, .. } in self.pending.drain(..) {
            let why = "this server is not the master any more; the change is made or not: see 'cld user list' and \
                       'cld limits'";
            tell(reply, refused(why.to_owned()));
        }
    }
}

/// The listed users after this one.
pub(super) fn users(node: &Node, after: Option<&str>) -> Answer {
    let users = node.database().users();
    let after = after.and_then(|name| UserName::new(name.as_bytes()));
    let name = |name: &UserName| String::from_utf8_lossy(name.as_bytes()).into_owned();
    let names: Vec<String> = users.names_after(after).take(NAMES).map(name).collect();
    let more = names.len() == NAMES;
    Answer::Users { names, more, user_as_key: users.user_as_key() }
}

/// The limits in force, by the names of their options.
pub(super) fn limits(node: &Node) -> Answer {
    let limits = node.database().limits();
    let known = LimitKind::SETTABLE.into_iter();
    Answer::Limits { limits: known.filter_map(|limit| Some((limit.option(), limits.get(limit)?))).collect() }
}

/// The ticket of the change, and what is told when it is done.
fn begin(node: &mut Node, clock: Clock, change: Change) -> Result<(u64, String), Answer> {
    let (setting, done) = match change {
        Change::AddUser { name, secret } => {
            let user = user(&name)?;
            (Setting::AddUser { user, secret, replace: false }, format!("the cell lets in '{name}'"))
        }
        Change::RemoveUser { name } => {
            let done = format!("the cell does not let in '{name}' any more; sessions of that user run out");
            (Setting::RemoveUser { user: user(&name)? }, done)
        }
        Change::UserAsKey { on: true } => {
            (Setting::UserAsKey(true), "the cell lets in everybody, whose name is the secret".to_owned())
        }
        Change::UserAsKey { on: false } => {
            (Setting::UserAsKey(false), "the cell lets in the listed users only".to_owned())
        }
        Change::Limit { name, value } => {
            let limit = limit(&name)?;
            let possible = node.database().limits().with(limit, value).clamped();
            if possible.get(limit) != Some(value) {
                let nearest = possible.get(limit).unwrap_or_default();
                return Err(refuse(format!("{name} cannot be {value}; the nearest is {nearest}")));
            }
            (Setting::Limit { limit, value }, format!("{name} is {value}"))
        }
    };
    let ticket = node.set(clock, setting).map_err(|error| match error {
        SetError::NotMaster => not_master(node),
        SetError::Configured => refuse(
            "a cell of one that was not made by 'cld cell init' follows its key file and its options: change those \
             ('cld user --keys FILE …'), and send it SIGHUP"
                .to_owned(),
        ),
        SetError::Busy => Answer::Refused { why: error.to_string(), again: true },
    })?;
    Ok((ticket, done))
}

fn user(name: &str) -> Result<UserName, Answer> {
    let wrong = |problem: &dyn std::fmt::Display| {
        refuse(format!("'{}' cannot be a user's name: {problem}", name.escape_default()))
    };
    check_name(name).map_err(|problem| wrong(&problem))?;
    UserName::new(name.as_bytes()).ok_or_else(|| wrong(&"it is too long"))
}

fn limit(name: &str) -> Result<LimitKind, Answer> {
    LimitKind::SETTABLE.into_iter().find(|limit| limit.option() == name).ok_or_else(|| {
        refuse(format!("'{}' is no limit of the cell; 'cld limits' shows them", name.escape_default()))
    })
}
