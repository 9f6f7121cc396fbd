//! Clients that work while servers fall and come back: what they were told must be so, and nothing may be done twice.
#![allow(dead_code, reason = "each test program uses another part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cldc_udp::Options;
use cldc_udp::blocking::Client;

/// Every call ends by then, whatever is broken meanwhile.
const DEADLINE: Duration = Duration::from_secs(60);

/// Writers with a file each, in which they count. Each reads what it wrote, now and then.
#[derive(Debug)]
pub(crate) struct Load {
    options: Options,
    writers: Vec<JoinHandle<(u64, u64)>>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// So many writers, who may ask any of these servers.
    pub(crate) fn start(servers: &[SocketAddr], writers: usize) -> Self {
        let options = Options::new("load", "load").servers(servers.iter().copied()).timeout(DEADLINE);
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let write = |writer| {
            let (options, acknowledged, stop) =
                (options.clone(), Arc::clone(&acknowledged), Arc::clone(&stop));
            let named = thread::Builder::new().name(format!("writer {writer}"));
            named.spawn(move || count(options, writer, &acknowledged, &stop)).unwrap()
        };
        let writers = (0..writers).map(write).collect();
        Self { options, writers, acknowledged, stop }
    }

    /// Waits for so many more acknowledged writes.
    pub(crate) fn await_more(&self, writes: u64) {
        let (enough, deadline) = (self.acknowledged.load(SeqCst) + writes, Instant::now() + DEADLINE);
        while self.acknowledged.load(SeqCst) < enough {
            assert!(Instant::now() < deadline, "no {writes} more writes");
            assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer has failed, see above");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the writers, and sees that each file holds the last that was acknowledged, and was written as often as that.
    /// Returns how many writes there were.
    pub(crate) fn finish(self) -> u64 {
        self.stop.store(true, SeqCst);
        let counted: Vec<(u64, u64)> =
            self.writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let client = Client::connect(self.options).unwrap();
        for (writer, &(base, last)) in counted.iter().enumerate() {
            let file = client.read(path(writer)).unwrap();
            assert_eq!(String::from_utf8(file.data).unwrap(), last.to_string(), "of writer {writer}");
            assert_eq!(file.metadata.version, base + last, "of writer {writer}: each write is done once");
        }
        counted.iter().map(|(_, last)| last).sum()
    }
}

fn path(writer: usize) -> String {
    format!("/load-{writer}")
}

/// Writes until told to stop: the version of the file at first, and the last number written.
fn count(options: Options, writer: usize, acknowledged: &AtomicU64, stop: &AtomicBool) -> (u64, u64) {
    let client = Client::connect(options).unwrap();
    let file = client.create(path(writer)).unwrap();
    let (base, mut last) = (file.metadata().unwrap().version, 0);
    while !stop.load(SeqCst) {
        last += 1;
        file.write(last.to_string().as_bytes()).unwrap();
        acknowledged.fetch_add(1, SeqCst);
        if last % 4 == 0 {
            let read = file.read().unwrap();
            assert_eq!((read.metadata.version, read.data), (base + last, last.to_string().into_bytes()));
        }
    }
    (base, last)
}
