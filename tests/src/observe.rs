//! What can be seen of a running server from outside: its own figures, and what the kernel charges it.

use std::fs;
use std::time::{Duration, Instant};

use crate::server::Cld;

/// How long a figure may take to appear in the log.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// The figures that the server logs on SIGUSR1.
#[derive(Clone, Debug)]
pub struct Figures(String);

impl Figures {
    /// Asks the server for its figures.
    ///
    /// # Panics
    /// When it does not tell them.
    #[must_use]
    #[track_caller]
    pub fn of(cld: &mut Cld) -> Self {
        let lines = |log: &str| log.lines().filter(|line| line.contains(" STAT ")).count();
        let before = lines(&cld.log());
        cld.sigusr1();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = cld.log();
            // The last line may not be whole yet.
            if let Some((whole, _)) = log.rsplit_once('\n')
                && lines(whole) > before
                && let Some(line) = whole.lines().rfind(|line| line.contains(" STAT "))
            {
                return Self(line.to_owned());
            }
            assert!(Instant::now() < deadline, "no figures after SIGUSR1; {}", cld.tail());
            std::thread::sleep(POLL);
        }
    }

    /// The figure of that name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        let key = format!(" {name}=");
        let value = self.0.split_once(&key).map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
        match value.map(str::parse) {
            Some(Ok(figure)) => figure,
            _ => panic!("no figure {name} in {:?}", self.0),
        }
    }

    /// How often the limit of that name was reached.
    #[must_use]
    pub fn limit(&self, name: &str) -> u64 {
        let counted = self.0.split_once(&format!("\"{name}\": ")).map(|(_, rest)| rest);
        let digits = counted.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }
}

/// The processor time that the server has used since its start, in ticks of 10 ms.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn processor_ticks(cld: &Cld) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", cld.process())).expect("read /proc/PID/stat");
    // Behind the program's name in brackets come the state, and as 12th and 13th field the times in user and kernel mode.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// How often the server's main thread has gone to sleep, and so been woken, since its start.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn wakes(cld: &Cld) -> u64 {
    status_field(cld, "voluntary_ctxt_switches:")
}

/// The memory that the server has in use, in KiB.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn resident_kib(cld: &Cld) -> u64 {
    status_field(cld, "VmRSS:")
}

fn status_field(cld: &Cld, name: &str) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", cld.process())).expect("read /proc/PID/status");
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in /proc/PID/status"))
}
