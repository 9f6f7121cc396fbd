//! Random commands: the state stays in order, replays are alike, bytes read back, and the name space does what a plain
//! map would.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

const PATHS: [&str; 9] = ["/", "/a", "/b", "/d", "/d/x", "/d/y", "/d/x/z", "/a/", "//"];

fn mode() -> impl Strategy<Value = OpenMode> {
    prop_oneof![
        Just(CREATE | LOCK | WRITE | READ),
        Just(CREATE | DIRECTORY | LOCK),
        any::<u32>().prop_map(OpenMode)
    ]
}

/// Mostly none, and rarely one that stands.
fn fence() -> impl Strategy<Value = Option<Sequencer>> {
    let path = prop::sample::select(&PATHS[..]).prop_map(|path| path.as_bytes().into());
    let fence = (50..54u64, 0..3u64, any::<bool>(), path)
        .prop_map(|(inode, generation, shared, path)| Sequencer { inode, generation, shared, path });
    prop::option::weighted(0.2, fence)
}

fn write() -> impl Strategy<Value = Write> {
    let path = || prop::sample::select(&PATHS[..]);
    let fh = || 1..8u64;
    prop_oneof![
        6 => (path(), mode(), 0..8u32).prop_map(|(path, mode, events)| open(path, mode, EventMask(events))),
        3 => (fh(), vec(any::<u8>(), 0..40), fence())
            .prop_map(|(fh, data, fence)| Write::Put { fh, data: data.into(), fence }),
        2 => fh().prop_map(|fh| Write::Close { fh }),
        2 => (path(), fence()).prop_map(|(path, fence)| Write::Del { path: path.as_bytes().into(), fence }),
        8 => (fh(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(fh, shared, wait)| Write::Lock { fh, flags: LockFlags(shared.into()), wait }),
        4 => fh().prop_map(|fh| Write::Unlock { fh }),
        1 => Just(Write::EndSession),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let small = Limits {
        sessions: 3,
        sessions_per_user: 2,
        handles_per_session: 4,
        handles_per_user: 6,
        path_length: 4,
        payload: 20,
        total_data: 600,
        session_timeout: 2,
    };
    prop_oneof![Just(small), Just(Limits::default())]
}

fn setting() -> impl Strategy<Value = Setting> {
    let user = || any::<bool>().prop_map(|bob| if bob { "bob" } else { "alice" });
    prop_oneof![
        (user(), any::<u8>()).prop_map(|(user, secret)| add(user, &[secret])),
        user().prop_map(|user| Setting::RemoveUser { user: UserName::new(user.as_bytes()).unwrap() }),
        any::<bool>().prop_map(Setting::UserAsKey),
        Just(Setting::Adopted),
    ]
}

/// An action of one of four sessions; requests have ids and numbers that mostly grow and sometimes repeat.
fn action(step: u64) -> impl Strategy<Value = Action> {
    let sid = || 1..5u64;
    let number = prop_oneof![9 => Just(step), 1 => 1..=step];
    let request = number.prop_flat_map(move |number| {
        let settled = (vec(0..number, 0..20), vec((1..8u64, 0..4u64), 0..4))
            .prop_map(|(replies, events)| Settled { replies, events });
        (sid(), Just(number), settled, write())
    });
    let request = request.prop_map(|(sid, number, settled, write)| Action::Request {
        sid,
        xid: number,
        order: number,
        settled,
        write,
    });
    prop_oneof![
        40 => request,
        4 => (sid(), any::<bool>(), prop::option::of(any::<(u32, u32)>())).prop_map(|(sid, bob, terms)| {
            let terms = terms.map(|(lease_ms, grace_ms)| Terms { lease_ms, grace_ms });
            open_extended(sid, if bob { "bob" } else { "alice" }, 0, terms)
        }),
        1 => sid().prop_map(|sid| Action::ExpireSession { sid }),
        1 => Just(Action::CompareDigests),
        1 => Just(Action::BeginEpoch),
        1 => limits().prop_map(Action::SetLimits),
        1 => setting().prop_map(Action::Set),
    ]
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let open = (1..5u64).map(|sid| open_session(sid, "alice", 0));
    let open: Vec<_> = open.map(|action| Command { at: 0, epoch: 0, action }).collect();
    (0..60usize).prop_flat_map(move |len| {
        let open = open.clone();
        let steps: Vec<_> = (1..=len as u64)
            .map(|step| (any::<u32>(), 0..3u64, action(step)))
            .map(|parts| parts.prop_map(|(at, epoch, action)| Command { at: at.into(), epoch, action }))
            .collect();
        steps.prop_map(move |steps| [open.clone(), steps].concat())
    })
}

/// What clients were told and have not acknowledged, as a plain list: every event ever told, but for those that an
/// acknowledgement, a later event of the kind, a deletion, or the end of the lock made void.
#[derive(Default)]
struct Told {
    pending: Vec<Notice>,
    /// The last number of each handle.
    last: BTreeMap<(u64, u64), u64>,
}

impl Told {
    fn settle(&mut self, sid: u64, settled: &Settled) {
        for &(fh, serial) in &settled.events {
            if self.last.get(&(sid, fh)).is_some_and(|&last| serial <= last) {
                self.pending.retain(|old| (old.sid, old.fh) != (sid, fh) || old.serial > serial);
            }
        }
    }

    fn tell(&mut self, db: &Database, notices: &[Notice]) {
        for &notice in notices {
            let last = self.last.insert((notice.sid, notice.fh), notice.serial);
            assert_eq!(notice.serial, last.unwrap_or(0) + 1);
            self.pending.retain(|old| {
                let other = (old.sid, old.fh) != (notice.sid, notice.fh);
                other || (old.events != notice.events && notice.events != DELETED)
            });
            self.pending.push(notice);
        }
        let handle = |sid, fh| db.session(sid)?.handle(fh);
        self.last.retain(|&(sid, fh), _| handle(sid, fh).is_some());
        self.pending.retain(|old| {
            let handle = handle(old.sid, old.fh);
            handle.is_some_and(|handle| old.events != LOCKED || handle.ticket.is_some())
        });
    }

    fn matches(&self, db: &Database) {
        for (sid, session) in db.sessions() {
            for handle in &session.handles {
                let mine = self.pending.iter().filter(|old| (old.sid, old.fh) == (sid, handle.fh));
                assert!(mine.copied().eq(handle.notices(sid)), "{handle:?}");
            }
        }
        for granted in self.pending.iter().filter(|notice| notice.events == LOCKED) {
            let sequencer = db.sequencer(granted.sid, granted.fh).unwrap();
            assert_eq!(db.check_sequencer(&sequencer), Ok(()));
        }
    }
}

/// Applies all commands; what each did.
fn run(db: &mut Database, commands: &[Command]) -> Vec<Effects> {
    commands.iter().map(|command| db.apply(command)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_state_stays_in_order(commands in commands()) {
        let mut db = Database::new();
        let mut client = Told::default();
        for command in &commands {
            let effects = db.apply(command);
            assert_in_order(&db);
            if let Action::Request { sid, settled, .. } = &command.action {
                client.settle(*sid, settled);
            }
            client.tell(&db, &effects.events);
            client.matches(&db);
            // Events go to sessions that exist, and are remembered; a session that ended is gone.
            for notice in &effects.events {
                let handle = db.session(notice.sid).and_then(|session| session.handle(notice.fh)).unwrap();
                prop_assert!(handle.unsettled().contains(notice.events) && handle.serial >= notice.serial);
            }
            prop_assert!(effects.ended.is_none_or(|sid| db.session(sid).is_none()));
        }
    }

    #[test]
    fn the_digest_is_that_of_a_walk_over_all_and_differs_whenever_the_state_does(commands in commands()) {
        let mut db = Database::new();
        // Without the digest at its end.
        let state = |db: &Database| snapshot(db).split_last_chunk::<16>().unwrap().0.to_vec();
        let mut seen = BTreeMap::from([(state(&db), db.digest())]);
        for command in &commands {
            db.apply(command);
            prop_assert_eq!(db.digest(), db.recomputed_digest());
            seen.insert(state(&db), db.digest());
        }
        let digests: BTreeSet<_> = seen.values().collect();
        prop_assert_eq!(digests.len(), seen.len());
        let decoded = Snapshot::decode(snapshot(&db).as_slice(), SUPPORTED).unwrap();
        prop_assert_eq!((decoded.digest(), decoded.recomputed_digest()), (db.digest(), db.digest()));
    }

    #[test]
    fn the_same_commands_give_the_same_state_and_effects(commands in commands(), at in 0..60usize) {
        let mut db = Database::new();
        let effects = run(&mut db, &commands);

        // Once more, by way of the log, and of a snapshot in the middle, whose origin goes on as well.
        let mut batch = Batch::new(SUPPORTED.highest);
        prop_assert!(commands.iter().all(|command| batch.push(command)));
        let logged = Batch::decode(&batch.into_entry(), SUPPORTED).unwrap();
        prop_assert_eq!(&logged, &commands);
        let (before, after) = logged.split_at(at.min(logged.len()));
        let mut first = Database::new();
        let mut repeated = run(&mut first, before);
        let mut second = Snapshot::decode(snapshot(&first).as_slice(), SUPPORTED).unwrap();
        let clone = first.clone();
        run(&mut first, after);
        repeated.extend(run(&mut second, after));
        prop_assert_eq!(repeated, effects);
        prop_assert_eq!(first.digest(), db.digest());
        prop_assert_eq!(second.digest(), db.digest());

        // What was cloned has not changed.
        let mut third = Database::new();
        run(&mut third, before);
        prop_assert_eq!(clone.digest(), third.digest());
    }

    #[test]
    fn commands_applied_twice_in_a_row_take_effect_once(mut commands in commands()) {
        let mut once = Database::new();
        let mut twice = Database::new();
        for command in &mut commands {
            if let Action::Request { settled, .. } = &mut command.action {
                // Made up as they are, they could acknowledge the events of this very command.
                settled.events.clear();
            }
            once.apply(command);
            twice.apply(command);
            twice.apply(command);
            prop_assert_eq!(once.digest(), twice.digest());
        }
    }

    #[test]
    fn hostile_bytes_never_panic(commands in commands(), at in any::<prop::sample::Index>(), byte: u8, noise: Vec<u8>) {
        let mut db = Database::new();
        run(&mut db, &commands);
        let mut bytes = snapshot(&db);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(read) = Snapshot::decode(bytes.as_slice(), SUPPORTED) {
            assert_in_order(&read);
        }
        let mut batch = Batch::new(SUPPORTED.highest);
        prop_assert!(commands.iter().all(|command| batch.push(command)));
        let mut entry = batch.into_entry();
        let place = at.index(entry.len());
        entry[place] = byte;
        if let Ok(commands) = Batch::decode(&entry, SUPPORTED) {
            run(&mut db, &commands);
            assert_in_order(&db);
        }
        let _ = Batch::decode(&noise, SUPPORTED);
        let _ = Snapshot::decode(noise.as_slice(), SUPPORTED);
    }

    #[test]
    fn the_name_space_does_what_a_plain_map_does(writes in vec(write(), 0..80)) {
        let mut cell = Cell::new();
        // The path of every file, with its contents; directories have none.
        let mut model: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::from([("/".into(), None)]);
        for write in writes {
            match &write.clone() {
                // Nobody holds a lock here.
                Write::Put { fence: Some(_), .. } | Write::Del { fence: Some(_), .. } => {
                    prop_assert_eq!(cell.code(1, write), Code::Stale);
                }
                Write::Open { path, mode, .. } => {
                    let path = String::from_utf8(path.to_vec()).unwrap();
                    let expected = model_open(&mut model, &path, *mode);
                    prop_assert_eq!(cell.code(1, write), expected, "{} {:?}", path, mode);
                }
                Write::Del { path, .. } => {
                    let path = String::from_utf8(path.to_vec()).unwrap();
                    let below = format!("{path}/");
                    let expected = match model.get(&path) {
                        _ if path == "/" => Code::NameInval,
                        None => Code::NameInval,
                        Some(_) if model.keys().any(|other| other.starts_with(&below)) => Code::DirNotEmpty,
                        Some(_) => Code::Ok,
                    };
                    if expected == Code::Ok {
                        model.remove(&path);
                    }
                    prop_assert_eq!(cell.code(1, write), expected, "{}", path);
                }
                Write::Put { fh, data, .. } => {
                    let (fh, data) = (*fh, data.to_vec());
                    let inode = cell.db.session(1).unwrap().handle(fh).and_then(|handle| handle.inode);
                    let code = cell.code(1, write);
                    prop_assert!(inode.is_some() || code == Code::FhInval);
                    if code == Code::Ok {
                        let path = cell.db.sessions.get(1).unwrap().handle(fh).unwrap().inode
                            .and_then(|inode| cell.db.namespace.get(inode)).unwrap().path.clone();
                        model.insert(String::from_utf8(path.to_vec()).unwrap(), Some(data));
                    }
                }
                _ => continue,
            }
            for (path, contents) in &model {
                let kind = if contents.is_some() { READ } else { READ | DIRECTORY };
                let fh = cell.open(2, path, kind, NONE);
                let data = cell.get(2, fh).unwrap();
                cell.write(2, Write::Close { fh });
                match contents {
                    Some(contents) => prop_assert_eq!(contents, &data),
                    None => {
                        let names = cldc_core::wire::dirent::Names::new(&data);
                        let mut listed: Vec<_> = names.map(|name| name.unwrap().to_vec()).collect();
                        listed.sort();
                        prop_assert_eq!(listed, model_children(&model, path));
                    }
                }
            }
            prop_assert_eq!(cell.db.totals().inodes, model.len() as u64);
        }
    }
}

fn model_open(model: &mut BTreeMap<String, Option<Vec<u8>>>, path: &str, mode: OpenMode) -> Code {
    let (create, directory) = (mode.contains(CREATE), mode.contains(DIRECTORY));
    if path.contains("//") || (path.ends_with('/') && (path != "/" || create)) {
        return Code::NameInval;
    }
    match model.get(path) {
        Some(_) if create && mode.contains(EXCL) => Code::InodeExists,
        Some(contents) if contents.is_none() != directory => Code::ModeInval,
        Some(_) => Code::Ok,
        None if !create => Code::NameInval,
        None => {
            let parent =
                path.rsplit_once('/').map(|(parent, _)| if parent.is_empty() { "/" } else { parent });
            if model.get(parent.unwrap()) != Some(&None) {
                return Code::NameInval;
            }
            model.insert(path.into(), (!directory).then(Vec::new));
            Code::Ok
        }
    }
}

fn model_children(model: &BTreeMap<String, Option<Vec<u8>>>, directory: &str) -> Vec<Vec<u8>> {
    let prefix = if directory == "/" { "/".into() } else { format!("{directory}/") };
    let names = model.keys().filter_map(|path| path.strip_prefix(&prefix));
    names
        .filter(|name| !name.is_empty() && !name.contains('/'))
        .map(|name| name.as_bytes().to_vec())
        .collect()
}
