//! Scripts, one step a line, and random walks. [`play`] explains the script's words.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

mod others;
mod reload;
mod scripts;
mod walk;

/// A breaker under a script.
struct Play {
    s: Settings,
    breaker: Breaker,
    start: Instant,
    held: BTreeMap<String, Ticket>,
    may_open: bool,
    chance: f64,
    /// What the transitions told so far add up to.
    told: State,
}

/// Plays a script on a new breaker. Each line is `<ms> <verb> [words] [-> facts]`; empty lines and what
/// follows a `#` are passed over. Each step asks the gate first, as a caller does.
///
/// | verb | does |
/// | --- | --- |
/// | `ok` `fail` `slow` `ignored` `[×n]` | n calls that are let through, and end so at once; slow ones take 2 s |
/// | `hold` | nothing: a look at the gate |
/// | `refused` | a call that must not be let through |
/// | `take a b …` | calls that are let through and stay under way under these names |
/// | `bypass a` | a call that is sent anyway |
/// | `end a ok\|fail\|slow\|ignored` | the call ends so |
/// | `drop a b …` | the calls end and show nothing |
/// | `late` | a body breaks off after its head was judged |
/// | `force open\|closed\|auto` | the operator's hand |
/// | `set key=value …` | a reload; durations in ms, `none` where a trigger can be off |
/// | `may_open yes\|no`, `chance 0.5` | what the caller says from here on |
///
/// Facts, separated by commas: a state; `told <state>` (by the transitions returned, where that differs);
/// `retry <ms>\|none`; `opens <n>`; `since <ms>\|none`; `share <x>`; `row <n>` (consecutive failures);
/// `counts <requests>/<failures>/<slow>`; `because <cause>` (last, since a cause may have commas).
fn play(s: Settings, script: &str) -> Play {
    let mut play = Play {
        s,
        breaker: Breaker::new(),
        start: crate::clock::now(),
        held: BTreeMap::new(),
        may_open: true,
        chance: 0.0,
        told: State::Closed,
    };
    for line in script.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            play.step(line);
        }
    }
    play
}

impl Play {
    fn step(&mut self, line: &str) {
        let (step, facts) = line.split_once("->").unwrap_or((line, ""));
        let mut words = step.split_whitespace();
        let at = words.next().and_then(|ms| ms.parse().ok());
        let now = self.start + Duration::from_millis(at.unwrap_or_else(|| panic!("time: {line}")));
        let verb = words.next().unwrap_or_else(|| panic!("verb: {line}"));
        let words: Vec<&str> = words.collect();
        self.gate(now, line);
        self.act(now, verb, &words, line);
        let mut facts = facts.trim();
        while !facts.is_empty() {
            let (fact, rest) = match facts.strip_prefix("because ") {
                Some(cause) => {
                    let real = self.breaker.cause().map(ToString::to_string);
                    assert_eq!(real.as_deref(), Some(cause), "{line}");
                    return;
                }
                None => facts.split_once(',').unwrap_or((facts, "")),
            };
            self.check(now, fact.trim(), line);
            facts = rest.trim();
        }
    }

    fn act(&mut self, now: Instant, verb: &str, words: &[&str], line: &str) {
        match verb {
            "ok" | "fail" | "slow" | "ignored" => {
                let count = words.first().map_or("1", |n| n.trim_start_matches('×'));
                for _ in 0..count.parse().unwrap_or_else(|_| panic!("count: {line}")) {
                    self.gate(now, line);
                    let ticket = self.breaker.admit(&self.s, now);
                    let ticket = ticket.unwrap_or_else(|| panic!("not let through: {line}"));
                    self.settle(now, ticket, verb, line);
                }
            }
            "hold" => {}
            "refused" => {
                assert_eq!(self.gate(now, line), Gate::Shut, "{line}");
                assert!(self.breaker.admit(&self.s, now).is_none(), "{line}");
            }
            "take" => {
                for name in words {
                    assert_ne!(self.gate(now, line), Gate::Shut, "{line}");
                    let ticket = self.breaker.admit(&self.s, now);
                    let ticket = ticket.unwrap_or_else(|| panic!("not let through: {line}"));
                    self.held.insert((*name).to_owned(), ticket);
                }
            }
            "bypass" => {
                let ticket = self.breaker.bypass();
                self.held.insert(words[0].to_owned(), ticket);
            }
            "end" => {
                let ticket = self
                    .held
                    .remove(words[0])
                    .unwrap_or_else(|| panic!("{line}"));
                self.settle(now, ticket, words[1], line);
            }
            "drop" => {
                for name in words {
                    let ticket = self.held.remove(*name).unwrap_or_else(|| panic!("{line}"));
                    self.breaker.release(ticket);
                }
            }
            "late" => {
                let told = self
                    .breaker
                    .late_failure(&self.s, now, self.may_open, self.chance);
                self.tell(told, line);
            }
            "force" => {
                let forced = match words[0] {
                    "open" => Some(Forced::Open),
                    "closed" => Some(Forced::Closed),
                    "auto" => None,
                    word => panic!("{word}: {line}"),
                };
                let told = self.breaker.force(forced, now);
                self.tell(told, line);
                assert_eq!(self.breaker.forced(), forced, "{line}");
            }
            "set" => words.iter().for_each(|word| self.set(word, line)),
            "may_open" => self.may_open = words[0] == "yes",
            "chance" => self.chance = words[0].parse().unwrap_or_else(|_| panic!("{line}")),
            _ => panic!("verb: {line}"),
        }
    }

    fn gate(&mut self, now: Instant, line: &str) -> Gate {
        let seen = self.breaker.state(&self.s, now);
        let (gate, told) = self.breaker.gate(&self.s, now);
        self.tell(told, line);
        assert_eq!(
            self.breaker.state(&self.s, now),
            seen,
            "the gate changes nothing seen: {line}"
        );
        gate
    }

    fn settle(&mut self, now: Instant, ticket: Ticket, how: &str, line: &str) {
        let outcome = match how {
            "ok" | "slow" => Outcome::Success,
            "fail" => Outcome::Failure,
            "ignored" => Outcome::Ignored,
            _ => panic!("{how}: {line}"),
        };
        let took = Duration::from_millis(if how == "slow" { 2000 } else { 5 });
        let seen = Observation { outcome, took };
        let (s, breaker) = (&self.s, &mut self.breaker);
        let told = breaker.settle(s, now, ticket, seen, self.may_open, None, self.chance);
        self.tell(told, line);
    }

    /// What the transitions tell must join on to each other, and end in the state that is.
    fn tell(&mut self, told: Option<Transition>, line: &str) {
        if let Some(Transition { from, to }) = told {
            assert_eq!(from, self.told, "{line}");
            assert_ne!(from, to, "{line}");
            self.told = to;
        }
        assert_eq!(self.breaker.state_by_stage(), self.told, "{line}");
    }

    fn set(&mut self, word: &str, line: &str) {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let count = || value.parse().unwrap_or_else(|_| panic!("{word}: {line}"));
        let share = || value.parse().unwrap_or_else(|_| panic!("{word}: {line}"));
        let time = || Duration::from_millis(u64::from(count()));
        let is_on = value != "none";
        match key {
            "consecutive_failures" => self.s.consecutive_failures = is_on.then(count),
            "failure_rate" => self.s.failure_rate = is_on.then(share),
            "slow_rate" => self.s.slow_rate = is_on.then(share),
            "slow_call" => self.s.slow_call = is_on.then(time),
            "window" => self.s.window = time(),
            "min_requests" => self.s.min_requests = count(),
            "open_for" => self.s.open_for = time(),
            "max_open_for" => self.s.max_open_for = time(),
            "probes" => self.s.probes = count(),
            "ramp" => self.s.ramp = time(),
            _ => panic!("{word}: {line}"),
        }
    }

    fn check(&mut self, now: Instant, fact: &str, line: &str) {
        let (word, value) = fact.split_once(' ').unwrap_or((fact, ""));
        let (s, breaker) = (&self.s, &mut self.breaker);
        let counts = breaker.counts(s, now);
        let real = match word {
            "closed" | "open" | "half_open" => {
                assert_eq!(breaker.state(s, now).name(), word, "{line}");
                return;
            }
            "told" => self.told.name().to_owned(),
            "retry" => match breaker.retry_in(now) {
                Some(wait) => wait.as_millis().to_string(),
                None => "none".to_owned(),
            },
            "opens" => breaker.opens_in_a_row().to_string(),
            "since" => match breaker.since() {
                Some(since) => (since - self.start).as_millis().to_string(),
                None => "none".to_owned(),
            },
            "row" => counts.consecutive_failures.to_string(),
            "counts" => format!("{}/{}/{}", counts.requests, counts.failures, counts.slow),
            "share" => match breaker.gate(s, now).0 {
                Gate::Closed { share } => format!("{share:.3}"),
                Gate::Probing => "probing".to_owned(),
                Gate::Shut => "shut".to_owned(),
            },
            _ => panic!("fact {fact}: {line}"),
        };
        assert_eq!(real, value, "{line}");
    }
}
