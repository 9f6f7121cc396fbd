//! What one session does, plain beside extended, with one request on its way or many.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use cld_tests::raw::codes::code;
use cld_tests::raw::extended::Extended;
use cld_tests::raw::{RawSession, Request};
use cld_tests::server::Cld;

use crate::client::CONTENTS;
use crate::load::Done;
use crate::machine;

/// How many requests are unanswered at a time.
const IN_FLIGHT: [usize; 2] = [1, 32];

/// A raw client of either kind: the server's work is measured, not a client's.
trait Session {
    fn begin(&mut self, request: &Request) -> u64;
    fn finish(&mut self, xid: u64) -> i32;
    fn create(&mut self, path: &str) -> u64;
}

impl Session for RawSession {
    fn begin(&mut self, request: &Request) -> u64 {
        self.request(request)
    }

    fn finish(&mut self, xid: u64) -> i32 {
        self.reply(xid).code
    }

    fn create(&mut self, path: &str) -> u64 {
        Self::create(self, path)
    }
}

impl Session for Extended {
    fn begin(&mut self, request: &Request) -> u64 {
        self.recording.clear();
        self.arrivals.clear();
        self.request(request)
    }

    fn finish(&mut self, xid: u64) -> i32 {
        self.reply(xid).code
    }

    fn create(&mut self, path: &str) -> u64 {
        Self::create(self, path)
    }
}

/// Prints what one session of either kind does.
///
/// # Errors
/// A request that failed, or nothing to be read of the machine.
pub(crate) fn run(cld: &Cld, folder: &Path, span: Duration) -> io::Result<()> {
    println!(
        "\n{:<28}{:>8}{:>10}{:>10}{:>10}{:>12}{:>12}",
        "one session", "flying", "per s", "p50 ms", "p99 ms", "CPU µs each", "disk per s"
    );
    let mut plain = cld.connect("plain");
    let mut extended = Extended::connect(cld.address(), "extended");
    // Its requests carry its acknowledgements.
    extended.acks = false;
    let sessions: [(&str, &mut dyn Session); 2] = [("plain", &mut plain), ("extended", &mut extended)];
    for (name, session) in sessions {
        let fh = session.create(&format!("/{name}"));
        let put = Request::Put { fh, data: vec![0x5a; CONTENTS] };
        for (work, request) in [("durable write", put), ("read", Request::Get { fh })] {
            for flying in IN_FLIGHT {
                let disk = machine::disk_rate(folder, Duration::from_millis(300))?;
                let before = machine::cpu_time(cld.process())?;
                let done = pipeline(session, &request, flying, span)?;
                let used = machine::cpu_time(cld.process())?.saturating_sub(before);
                let each = used.as_secs_f64() * 1e6 / done.micros.len() as f64;
                println!(
                    "{:<28}{flying:>8}{:>10.0}{:>10.2}{:>10.2}{each:>12.0}{disk:>12.0}",
                    format!("{work}, {name}"),
                    done.rate(),
                    done.percentile(50),
                    done.percentile(99)
                );
            }
        }
    }
    Ok(())
}

/// Keeps so many requests on their way for so long.
fn pipeline(session: &mut dyn Session, request: &Request, flying: usize, span: Duration) -> io::Result<Done> {
    let mut pending = VecDeque::new();
    let mut micros = Vec::new();
    let begin = Instant::now();
    loop {
        while pending.len() < flying && begin.elapsed() < span {
            let now = Instant::now();
            pending.push_back((session.begin(request), now));
        }
        let Some((xid, begun)) = pending.pop_front() else { break };
        let code = session.finish(xid);
        if code != code::OK {
            return Err(io::Error::other(format!("code {code} answers {request:?}")));
        }
        micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    let span = begin.elapsed();
    micros.sort_unstable();
    Ok(Done { micros, span })
}
