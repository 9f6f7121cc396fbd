//! The disk threads: one for the log, which does its jobs in order, and one for snapshot files beside it ([`snapshots`]),
//! so that they never hold up a commit.
//!
//! [`snapshots`]: super::snapshots

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::snapshots::SnapshotThread;
use crate::node::{DiskDone, DiskJob};
use crate::storage::{LogStore, LogWrite, SnapshotRecord, Store};

/// The most jobs that are under way. Further ones wait in the node.
const MAX_JOBS: usize = 64;

/// How much the thread for snapshots stands back when processors are short.
const SNAPSHOT_NICENESS: i32 = 10;

/// The two threads. They end when this is dropped, after the job that they are at and those that wait.
#[derive(Debug)]
pub(super) struct DiskThreads {
    log: SyncSender<LogJob>,
    snapshots: SyncSender<DiskJob>,
    finished: mpsc::Receiver<Finished>,
    under_way: usize,
    /// Ends when the log is closed.
    closed: oneshot::Receiver<()>,
}

#[derive(Debug)]
enum LogJob {
    Append { ticket: u64, write: LogWrite },
    RecordSnapshot { record: SnapshotRecord, trim_through: u64 },
    MarkDiverged { why: String },
}

/// What became of one or several jobs.
#[derive(Debug)]
struct Finished {
    done: DiskDone,
    jobs: usize,
}

impl DiskThreads {
    /// Starts the threads on this store.
    pub(super) fn start(store: Store) -> io::Result<Self> {
        // No job waits for room: there are never more than MAX_JOBS, and one failure of each thread.
        let (report, finished) = mpsc::channel(MAX_JOBS + 2);
        let (log, log_jobs) = sync_channel(MAX_JOBS);
        let (snapshots, snapshot_jobs) = sync_channel(MAX_JOBS);
        let files = store.snapshots().clone();
        let mut log_thread = LogThread { store, report: Reporter(report.clone()) };
        let (close, closed) = oneshot::channel();
        thread::Builder::new().name("cld-log".to_owned()).spawn(move || {
            log_thread.run(&log_jobs);
            drop(log_thread);
            // Nobody may be waiting.
            let _ = close.send(());
        })?;
        let reporter = Reporter(report);
        thread::Builder::new()
            .name("cld-snapshot".to_owned())
            .spawn(move || run_snapshots(SnapshotThread::new(files), &snapshot_jobs, &reporter))?;
        Ok(Self { log, snapshots, finished, under_way: 0, closed })
    }

    /// Whether another job may be given.
    pub(super) fn has_room(&self) -> bool {
        self.under_way < MAX_JOBS
    }

    /// Gives a job to its thread. What becomes of it comes from [`DiskThreads::next`].
    pub(super) fn submit(&mut self, job: DiskJob) {
        let taken = match job {
            DiskJob::Append { ticket, write } => self.log.try_send(LogJob::Append { ticket, write }).is_ok(),
            DiskJob::RecordSnapshot { record, trim_through } => {
                self.log.try_send(LogJob::RecordSnapshot { record, trim_through }).is_ok()
            }
            DiskJob::MarkDiverged { why } => self.log.try_send(LogJob::MarkDiverged { why }).is_ok(),
            job => self.snapshots.try_send(job).is_ok(),
        };
        // A thread that takes none has failed, and its failure is among the finished.
        self.under_way += usize::from(taken);
    }

    /// Waits for what became of a job.
    pub(super) async fn next(&mut self) -> DiskDone {
        match self.finished.recv().await {
            Some(finished) => self.count(finished),
            None => failed("both disk threads are gone"),
        }
    }

    /// What became of a job, if one is done.
    pub(super) fn try_next(&mut self) -> Option<DiskDone> {
        let finished = self.finished.try_recv().ok()?;
        Some(self.count(finished))
    }

    /// Ends the threads, and waits until the log is closed: then the next start need not check it for an unfinished
    /// write. A snapshot that is being written is given up.
    pub(super) async fn close(self) {
        drop(self.log);
        drop(self.snapshots);
        // It fails when the thread has panicked, and then there is nothing to wait for.
        let _ = self.closed.await;
    }

    fn count(&mut self, finished: Finished) -> DiskDone {
        self.under_way = self.under_way.saturating_sub(finished.jobs);
        finished.done
    }
}

struct LogThread {
    store: Store,
    report: Reporter,
}

impl LogThread {
    fn run(&mut self, jobs: &Receiver<LogJob>) {
        while let Ok(job) = jobs.recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                let finished = match job {
                    LogJob::Append { ticket, write } => {
                        let finished;
                        (finished, next) = self.append(ticket, write, jobs);
                        finished
                    }
                    LogJob::RecordSnapshot { record, trim_through } => self.record(&record, trim_through),
                    LogJob::MarkDiverged { why } => self.mark(&why),
                };
                let goes_on = !matches!(finished.done, DiskDone::Failed { .. });
                if !self.report.send(finished) || !goes_on {
                    return;
                }
            }
        }
    }

    /// Does all the appends that wait as one, with one sync of the disk. Returns the job that it found after them.
    fn append(
        &mut self,
        ticket: u64,
        write: LogWrite,
        jobs: &Receiver<LogJob>,
    ) -> (Finished, Option<LogJob>) {
        let (mut last, mut writes) = (ticket, vec![write]);
        let mut other = None;
        while let Ok(job) = jobs.try_recv() {
            match job {
                LogJob::Append { ticket, write } => {
                    last = ticket;
                    writes.push(write);
                }
                job @ (LogJob::RecordSnapshot { .. } | LogJob::MarkDiverged { .. }) => {
                    other = Some(job);
                    break;
                }
            }
        }
        let done = match self.store.append(&writes) {
            Ok(()) => DiskDone::Appended { ticket: last },
            Err(error) => failed(error),
        };
        (Finished { done, jobs: writes.len() }, other)
    }

    fn record(&mut self, record: &SnapshotRecord, trim_through: u64) -> Finished {
        let done = match self.store.record_snapshot(record, trim_through) {
            Ok(()) => DiskDone::SnapshotRecorded { record: record.clone(), trim_through },
            Err(error) => failed(error),
        };
        Finished { done, jobs: 1 }
    }

    fn mark(&self, why: &str) -> Finished {
        let done = match self.store.mark_diverged(&why) {
            Ok(()) => DiskDone::MarkedDiverged,
            Err(error) => {
                failed(format_args!("{why}. The data could not be marked: {error}; remove it by hand"))
            }
        };
        Finished { done, jobs: 1 }
    }
}

fn run_snapshots(mut thread: SnapshotThread, jobs: &Receiver<DiskJob>, report: &Reporter) {
    // Requests go first. Linux takes this for the calling thread alone; where it is refused, nothing is lost.
    let _ = rustix::process::nice(SNAPSHOT_NICENESS);
    while let Ok(job) = jobs.recv() {
        let done = thread.perform(job);
        if !report.send(Finished { done, jobs: 1 }) {
            return;
        }
    }
}

pub(super) fn failed(what: impl ToString) -> DiskDone {
    DiskDone::Failed { what: what.to_string() }
}

/// How a thread tells what it did, and also that it is gone.
struct Reporter(mpsc::Sender<Finished>);

impl Reporter {
    /// Whether anybody still listens.
    fn send(&self, finished: Finished) -> bool {
        self.0.try_send(finished).is_ok()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if thread::panicking() {
            self.send(Finished { done: failed("a disk thread panicked; the log says where"), jobs: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::storage::{
        Configuration, Disk, DiskFile, HardState, Identity, LogEntry, LogPosition, OpenMode, OsDisk,
        SnapshotPoint,
    };

    const CELL: OpenMode = OpenMode::NewCell(Identity { node: NonZeroU64::MIN, cell: 1 });

    /// A disk that is full from some moment on.
    #[derive(Debug)]
    struct Filling(OsDisk, Arc<AtomicBool>);

    #[derive(Debug)]
    struct FillingFile(Box<dyn DiskFile>, Arc<AtomicBool>);

    impl Disk for Filling {
        fn location(&self) -> &Path {
            self.0.location()
        }
        fn list(&self) -> io::Result<Vec<String>> {
            self.0.list()
        }
        fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(FillingFile(self.0.create(name)?, Arc::clone(&self.1))))
        }
        fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(FillingFile(self.0.open(name)?, Arc::clone(&self.1))))
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
    }

    impl DiskFile for FillingFile {
        fn size(&self) -> io::Result<u64> {
            self.0.size()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            match self.1.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => self.0.write(offset, data),
            }
        }
        fn resize(&self, size: u64) -> io::Result<()> {
            self.0.resize(size)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
    }

    fn append(index: u64) -> DiskJob {
        let at = LogPosition { index, term: 1 };
        let entry = LogEntry { at, payload: b"entry".to_vec(), ..LogEntry::default() };
        let hard_state = HardState { term: 1, vote: 1, commit: index };
        DiskJob::Append {
            ticket: index,
            write: LogWrite { snapshot: None, entries: vec![entry], hard_state },
        }
    }

    fn point(index: u64) -> SnapshotPoint {
        let configuration = Configuration::of_voters([1]);
        SnapshotPoint { at: LogPosition { index, term: 1 }, configuration }
    }

    #[tokio::test]
    async fn jobs_are_done_and_survive_closing() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), CELL).unwrap();
        let mut disk = DiskThreads::start(store).unwrap();
        (2..=20).for_each(|index| disk.submit(append(index)));
        while !matches!(disk.next().await, DiskDone::Appended { ticket: 20 }) {}
        disk.submit(DiskJob::Snapshot { point: point(10), database: Box::default() });
        let DiskDone::SnapshotWritten { record } = disk.next().await else {
            panic!("no snapshot was written")
        };
        disk.submit(DiskJob::RecordSnapshot { record, trim_through: 8 });
        let recorded = disk.next().await;
        assert!(matches!(recorded, DiskDone::SnapshotRecorded { trim_through: 8, .. }), "{recorded:?}");
        assert_eq!(disk.under_way, 0, "every job was accounted for");
        disk.close().await;

        let (_, recovered) = Store::open(directory.path(), CELL).unwrap();
        assert_eq!(recovered.log.base, point(10));
        assert_eq!(recovered.log.entries.first().unwrap().at.index, 9);
        assert_eq!(recovered.log.entries.last().unwrap().at.index, 20);
        assert!(recovered.snapshot.is_some());
    }

    #[tokio::test]
    async fn a_full_disk_is_told_with_the_file_and_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let disk = Filling(OsDisk::new(directory.path()), Arc::clone(&full));
        let (store, _) = Store::open_on(Arc::new(disk), CELL).unwrap();
        let mut disk = DiskThreads::start(store).unwrap();
        full.store(true, Ordering::SeqCst);

        disk.submit(DiskJob::Snapshot { point: point(1), database: Box::default() });
        let DiskDone::Failed { what } = disk.next().await else { panic!("the snapshot was written") };
        assert!(what.contains("snapshot-0000000000000001") && what.contains("make room"), "{what}");

        disk.submit(append(2));
        let DiskDone::Failed { what } = disk.next().await else { panic!("the entry was written") };
        assert!(what.contains("log.redb") && what.contains("the server must stop"), "{what}");
    }
}
