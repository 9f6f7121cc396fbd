//! What resending costs: one client with one request on its way, through a network that loses datagrams.

use std::time::{Duration, Instant};

use cld_tests::proxy::{Direction, Faults, Proxy};
use cld_tests::server::Cld;
use cldc_udp::Options;
use cldc_udp::blocking::Client;

use crate::Result;
use crate::client::CONTENTS;
use crate::limit;
use crate::load::Done;

/// Lost each way.
const LOSSES: [f64; 3] = [0.0, 0.1, 0.3];
/// There, and as much back.
const DELAY: Duration = Duration::from_millis(10);

/// Prints how many packets a write costs and how long it takes, plain beside extended.
///
/// # Errors
/// A request that failed.
pub(crate) fn run(cld: &Cld, span: Duration) -> Result {
    println!(
        "\n{:<28}{:>8}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "write, 20 ms away", "lost", "writes", "p50 ms", "p99 ms", "sent each", "got each"
    );
    for (name, plain) in [("plain", true), ("extended", false)] {
        for loss in LOSSES {
            let proxy = Proxy::start(cld.address());
            proxy.set_both(Faults { delay: DELAY, ..Faults::default() });
            let options = Options::new(name, name).server(proxy.address());
            let client = Client::connect(if plain { options.plain() } else { options })?;
            let file = client.create(format!("/{name}"))?;
            proxy.set_both(Faults { delay: DELAY, loss, ..Faults::default() });
            let packets =
                || [Direction::ToServer, Direction::ToClient].map(|way| proxy.counters(way).received);
            let (before, begin, mut micros) = (packets(), Instant::now(), Vec::new());
            while begin.elapsed() < span * 2 {
                limit::check()?;
                let begun = Instant::now();
                file.write(&[0x5a; CONTENTS])?;
                micros.push(u64::try_from(begun.elapsed().as_micros())?);
            }
            let (after, span) = (packets(), begin.elapsed());
            micros.sort_unstable();
            let done = Done { micros, span, ..Done::default() };
            let count = done.micros.len() as f64;
            let [sent, got] = [0, 1].map(|way: usize| {
                let counted = |packets: &[u64; 2]| packets.get(way).copied().unwrap_or_default();
                (counted(&after) - counted(&before)) as f64 / count
            });
            println!(
                "{name:<28}{:>7.0}%{:>10}{:>10.1}{:>10.1}{sent:>10.2}{got:>10.2}",
                loss * 100.0,
                done.micros.len(),
                done.percentile(50),
                done.percentile(99)
            );
            proxy.set_both(Faults::default());
            client.close()?;
        }
    }
    Ok(())
}
