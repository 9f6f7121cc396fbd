//! Whether each file's history is linearizable, by the checker of `todc-utils`; and the smallest part of one that is not.

use std::cell::Cell;
use std::rc::Rc;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History as Actions};
use todc_utils::specifications::Specification;

use super::file::{State, Step};
use super::{Call, History, OpId, Operation, Outcome, Violation};
use crate::raw::codes::code;

/// How many steps the search may try for one history. It remembers each, with some hundred bytes.
const STEPS: u32 = 200_000;

thread_local! {
    /// How many are left to the search that this thread does.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// A file and its lock for the checker.
struct FileAndLock;

impl Specification for FileAndLock {
    type State = State;
    /// The checker moves them about.
    type Operation = Rc<Step>;

    fn init() -> State {
        State::default()
    }

    /// Beyond the limit, nothing is possible any more, and so the search ends.
    fn apply(step: &Rc<Step>, state: &State) -> (bool, State) {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        let after = if left > 0 { state.after(step) } else { None };
        after.map_or_else(|| (false, state.clone()), |after| (true, after))
    }
}

/// What the search found.
#[derive(PartialEq)]
enum Verdict {
    Linearizable,
    Not,
    /// It was given up.
    Unknown,
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut smallest: Option<Vec<Operation>> = None;
    let mut unknown = Ok(());
    for (path, operations) in history.by_path() {
        let operations: Vec<Operation> = operations.into_iter().cloned().collect();
        match search(&operations) {
            Verdict::Linearizable => {}
            Verdict::Not => {
                let found = shrink(operations);
                if smallest.as_ref().is_none_or(|other| found.len() < other.len()) {
                    smallest = Some(found);
                }
            }
            Verdict::Unknown => {
                let open = operations.iter().filter(|operation| operation.answered.is_none()).count();
                let (path, operations) = (path.to_owned(), operations.len());
                unknown = Err(Violation::TooLong { path, operations, open });
            }
        }
    }
    match smallest {
        None => unknown,
        Some(operations) => {
            let path = operations.first().map(|operation| operation.path.to_string()).unwrap_or_default();
            let lines: Vec<String> = operations.iter().map(ToString::to_string).collect();
            Err(Violation::NotLinearizable { path, history: lines.join("\n") })
        }
    }
}

fn search(operations: &[Operation]) -> Verdict {
    let mut events: Vec<(usize, bool, usize)> = Vec::new();
    let mut steps = Vec::new();
    for operation in operations {
        let Operation { id, client, ref call, called, ref answered, .. } = *operation;
        if answered.is_none() && changes_nothing(operation) {
            continue;
        }
        let end = answered.as_ref().map_or_else(|| seen(call, operations), |(moment, _)| moment.order);
        let outcome = answered.as_ref().map(|(_, outcome)| outcome.clone());
        let mut add = |grant, outcome| {
            events.extend([(called.order, false, steps.len()), (end, true, steps.len())]);
            steps.push(Rc::new(Step { id, client, call: call.clone(), grant, outcome }));
        };
        match (call, &outcome) {
            (Call::Lock(..), Some(Outcome::Locked(_))) => add(true, outcome.clone()),
            // It may have waited until the file was deleted.
            (Call::Lock(..), Some(Outcome::Refused(code::FH_INVAL | code::INODE_INVAL))) => {
                add(true, outcome);
                add(false, None);
                continue;
            }
            _ => {}
        }
        add(false, outcome);
    }
    if events.is_empty() {
        return Verdict::Linearizable;
    }
    events.sort_unstable();
    let action = |(_, is_answer, place): (usize, bool, usize)| {
        let step = steps.get(place)?.clone();
        Some((place, if is_answer { Action::Response(step) } else { Action::Call(step) }))
    };
    LEFT.set(STEPS);
    let possible = WGLChecker::<FileAndLock>::is_linearizable(Actions::from_actions(
        events.into_iter().filter_map(action).collect(),
    ));
    match (possible, LEFT.get()) {
        (true, _) => Verdict::Linearizable,
        (false, 0) => Verdict::Unknown,
        (false, _) => Verdict::Not,
    }
}

/// By when something without an answer has happened if it ever does. Each that may happen until the end can double the
/// work, so it matters that what was written has happened when it is read, if nobody else wrote the same.
fn seen(call: &Call, operations: &[Operation]) -> usize {
    let Call::Put(_, written) = call else { return usize::MAX };
    let same = |it: &&Operation| matches!(&it.call, Call::Put(_, other) if other == written);
    if written.is_empty() || operations.iter().filter(same).count() > 1 {
        return usize::MAX;
    }
    let reads = operations.iter().filter_map(|it| it.answered.as_ref());
    let seen =
        reads.filter(|(_, outcome)| matches!(outcome, Outcome::Contents { data, .. } if data == written));
    seen.map(|(moment, _)| moment.order).min().unwrap_or(usize::MAX)
}

/// The shortest beginning of a history that does not linearize, without the operations that change nothing and are not
/// needed to see it: taken from a history that linearizes, these leave one that does.
fn shrink(operations: Vec<Operation>) -> Vec<Operation> {
    let mut answers: Vec<usize> =
        operations.iter().filter_map(|operation| Some(operation.answered.as_ref()?.0.order)).collect();
    answers.sort_unstable();
    let first_bad = answers.partition_point(|&end| search(&beginning(&operations, end)) != Verdict::Not);
    let mut kept = answers.get(first_bad).map_or(operations.clone(), |&end| beginning(&operations, end));
    let mut idle: Vec<OpId> = kept.iter().filter(|it| changes_nothing(it)).map(|it| it.id).collect();
    // First all, then halves, quarters and so on, so that few searches are needed.
    let mut size = idle.len();
    while size > 0 {
        idle = idle.chunks(size).fold(Vec::new(), |needed, some| {
            let without: Vec<Operation> = kept.iter().filter(|it| !some.contains(&it.id)).cloned().collect();
            if search(&without) == Verdict::Not {
                kept = without;
                needed
            } else {
                [&needed, some].concat()
            }
        });
        size = if size == 1 { 0 } else { size.div_ceil(2).min(idle.len()) };
    }
    kept
}

/// What was known at that moment.
fn beginning(operations: &[Operation], end: usize) -> Vec<Operation> {
    let called = operations.iter().filter(|operation| operation.called.order < end).cloned();
    called
        .map(|mut operation| {
            operation.answered.take_if(|(moment, _)| moment.order > end);
            operation
        })
        .collect()
}

fn changes_nothing(operation: &Operation) -> bool {
    let refused = matches!(operation.answered, Some((_, Outcome::Refused(_))));
    refused || matches!(operation.call, Call::Get(_) | Call::Meta(_) | Call::Check(..))
}
