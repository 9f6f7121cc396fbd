//! What goes wrong: each fault comes with its end, unless the run ends before.

use super::client::Task;
use super::network::{Machine, Weather};
use super::plan::Severity;
use super::world::World;
use super::{millis, seconds};

/// Something that is to happen at its time.
#[derive(Debug)]
pub(super) enum Act {
    /// The next fault is chosen.
    Harm,
    /// See [`super::checks`].
    Sample,
    /// A server is started.
    Start(u64),
    /// Two servers are linked again.
    Link(u64, u64),
    /// These ways carry again.
    Mend(Vec<(Machine, Machine)>),
    /// The network is as usual, and these ways are not slow any more.
    Clear(Vec<(Machine, Machine)>),
    /// A disk is as fast as usual.
    Hurry(u64),
    /// A new session begins.
    Join(usize),
}

impl World {
    pub(super) fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Harm => {
                self.harm()?;
                let after = 1 + self.rng.below(2 * self.plan.pace);
                self.at(after, Act::Harm);
                Ok(())
            }
            Act::Sample => {
                self.at(millis(100), Act::Sample);
                self.checks.sample(&self.servers, &self.plan, self.network.len(), self.shared.now)
            }
            Act::Start(id) => self.start(id),
            Act::Link(one, other) => self.link(one, other),
            Act::Mend(ways) => self.mend(&ways),
            Act::Clear(ways) => {
                self.network.weather = Weather::CALM;
                ways.into_iter().for_each(|(from, to)| self.network.slow(from, to, 0));
                Ok(())
            }
            Act::Hurry(id) => {
                if let Some(server) = self.servers.get_mut(&id) {
                    server.latency = self.plan.disk;
                }
                Ok(())
            }
            Act::Join(place) => self.join(place, Task::Mix),
        }
    }

    /// All faults end at once, and no others follow.
    pub(super) fn calm(&mut self) -> Result<(), String> {
        self.shared.trace.tell(self.shared.now, "all faults end");
        self.is_calm = true;
        let left = std::mem::take(&mut self.schedule);
        for act in left.into_values() {
            match act {
                Act::Join(_) | Act::Sample => self.act(act)?,
                _ => {}
            }
        }
        for (one, other) in self.network.heal() {
            self.unlink(one, other)?;
        }
        for server in self.servers.values_mut() {
            server.paused = 0;
            server.latency = 1000;
        }
        self.clients.iter_mut().for_each(|client| client.paused = 0);
        for id in self.ids() {
            self.start(id)?;
        }
        for one in self.ids() {
            for other in self.ids() {
                self.link(one, other)?;
            }
        }
        Ok(())
    }

    fn mend(&mut self, ways: &[(Machine, Machine)]) -> Result<(), String> {
        for &(from, to) in ways {
            if self.network.mend(from, to)
                && let (Machine::Server(one), Machine::Server(other)) = (from, to)
            {
                // The link may have lost something, so it is made anew.
                self.unlink(one, other)?;
                self.link(one, other)?;
            }
        }
        Ok(())
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.faults += 1;
        self.shared.trace.tell(self.shared.now, format_args!("FAULT: {what}"));
    }

    /// Up to this long if faults are bounded, else often much longer.
    fn span(&mut self, bound: u64) -> u64 {
        let factor = match self.plan.severity {
            Severity::Bounded => 1,
            Severity::Unbounded if self.rng.below(4) == 0 => 8,
            Severity::Unbounded => 2,
        };
        1 + self.rng.below(bound * factor)
    }

    /// Whether a server may be harmed now for this long.
    fn may_harm(&mut self, span: u64) -> bool {
        let now = self.shared.now;
        if self.plan.severity == Severity::Bounded {
            if now < self.harmless_until {
                return false;
            }
            self.harmless_until = now + span + seconds(4);
        }
        true
    }

    /// One fault.
    fn harm(&mut self) -> Result<(), String> {
        let ids = self.ids();
        let at = |random: u64| ids.get(usize::try_from(random).unwrap_or(0)).copied().unwrap_or(1);
        let (id, other) = (at(self.rng.below(ids.len() as u64)), at(self.rng.below(ids.len() as u64)));
        let place =
            usize::try_from(self.rng.below((self.plan.extended + self.plan.plain) as u64)).unwrap_or(0);
        let client = Machine::Client(place);
        match self.rng.below(20) {
            0..3 => {
                let span = self.span(seconds(2));
                if self.may_harm(span) {
                    self.say(format_args!("server {id} crashes"));
                    self.crash(id)?;
                    self.at(span, Act::Start(id));
                }
            }
            3 => {
                if self.may_harm(seconds(1)) {
                    self.say(format_args!("the power fails"));
                    for id in ids {
                        self.crash(id)?;
                        let span = self.rng.below(millis(300));
                        self.at(span, Act::Start(id));
                    }
                }
            }
            4 | 5 => {
                let span = self.span(millis(1500));
                if self.may_harm(span) {
                    self.say(format_args!("server {id} stands still for {} ms", span / 1000));
                    let until = self.shared.now + span;
                    if let Some(server) = self.servers.get_mut(&id) {
                        server.paused = server.paused.max(until);
                    }
                }
            }
            6..9 => {
                let span = self.span(seconds(2));
                if self.may_harm(span) {
                    let ways = self.partition(id);
                    self.cut(ways, span);
                }
            }
            9 => {
                if id != other {
                    self.say(format_args!("the link of {id} and {other} breaks"));
                    self.unlink(id, other)?;
                    let span = 1 + self.rng.below(millis(300));
                    self.at(span, Act::Link(id, other));
                }
            }
            10 | 11 => {
                let span = self.span(seconds(3));
                let one_way = self.rng.below(3);
                let mut ways = Vec::new();
                for id in ids {
                    let server = Machine::Server(id);
                    if one_way != 1 {
                        ways.push((client, server));
                    }
                    if one_way != 2 {
                        ways.push((server, client));
                    }
                }
                self.cut(ways, span);
            }
            12 | 13 => {
                let span = self.span(seconds(2));
                let most = if self.plan.severity == Severity::Bounded { 100 } else { 400 };
                let weather = Weather {
                    loss: self.rng.below(most),
                    duplicates: self.rng.below(most),
                    damage: self.rng.below(most / 4),
                    delay: 200 + self.rng.below(millis(60)),
                    peer_loss: self.rng.below(most / 5),
                };
                self.say(format_args!("{weather:?}"));
                self.network.weather = weather;
                self.at(span, Act::Clear(Vec::new()));
            }
            14 | 15 => {
                let (span, by) = (self.span(seconds(4)), millis(10) + self.rng.below(millis(700)));
                self.say(format_args!("what client {place} is told is late by {} ms", by / 1000));
                let ways: Vec<_> = ids.iter().map(|&id| (Machine::Server(id), client)).collect();
                ways.iter().for_each(|&(from, to)| self.network.slow(from, to, by));
                self.at(span, Act::Clear(ways));
            }
            16 => {
                let latency = millis(1 + self.rng.below(150));
                self.say(format_args!("the disk of server {id} is slow: {} ms", latency / 1000));
                if let Some(server) = self.servers.get_mut(&id) {
                    server.latency = latency;
                }
                let span = self.span(seconds(2));
                self.at(span, Act::Hurry(id));
            }
            17 => {
                let span = self.span(seconds(2));
                let until = self.shared.now + span;
                self.say(format_args!("client {place} stands still for {} ms", span / 1000));
                if let Some(client) = self.clients.get_mut(place) {
                    client.paused = client.paused.max(until);
                }
            }
            18 => {
                self.say(format_args!("client {place} is killed"));
                if let Some(client) = self.clients.get_mut(place).filter(|client| client.fate.is_none()) {
                    client.die(&mut self.shared);
                    self.at(millis(50), Act::Join(place));
                }
            }
            _ => {
                let (now, ppm) = (self.shared.now, self.drift());
                self.say(format_args!("the clock of server {id} is off by {ppm} ppm"));
                if let Some(server) = self.servers.get_mut(&id) {
                    server.watch.set_rate(now, ppm);
                    server.reckon();
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, ways: Vec<(Machine, Machine)>, span: u64) {
        self.say(format_args!("cut for {} ms: {ways:?}", span / 1000));
        ways.iter().for_each(|&(from, to)| self.network.cut(from, to));
        self.at(span, Act::Mend(ways));
    }

    /// Ways between a server, or two, and others: all or some of them, in one direction or both.
    fn partition(&mut self, id: u64) -> Vec<(Machine, Machine)> {
        let direction = self.rng.below(4);
        let partial = self.rng.below(3) == 0;
        let mut ways = Vec::new();
        for other in self.ids() {
            if other == id || (partial && self.rng.below(2) == 0) {
                continue;
            }
            let (one, other) = (Machine::Server(id), Machine::Server(other));
            if direction != 1 {
                ways.push((one, other));
            }
            if direction != 2 {
                ways.push((other, one));
            }
        }
        ways
    }
}
