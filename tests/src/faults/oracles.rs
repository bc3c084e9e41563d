//! What must hold after every run, judged offline from its [`Evidence`] alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Fact, Stored};
use super::history::{Command, Kind, Outcome, commands};

mod delivered;
mod folded;
#[cfg(test)]
mod tests;

/// How long a service may take after a fault to acknowledge a command again, and to know it in queries.
pub const RECOVERS_WITHIN: Duration = Duration::from_mins(1);

/// Refusals that a fault explains: "not now", not sent at all, or others were quicker.
const EXPLAINED: &[&str] = &[
    "unavailable",
    "overloaded",
    "log_untrusted",
    "conflict",
    "not_sent",
];

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Oracle {
    /// Every acknowledged command is in the log exactly once.
    O1,
    /// No refused command is in the log, and none is refused without a reason.
    O2,
    /// A command of unknown outcome is in the log at most once, and nothing is that nobody asked for.
    O3,
    /// Logs have no gaps, and aggregates' versions and hashes go on from each other.
    O4,
    /// Every read model is a fold of the log.
    O5,
    /// No tenant finds a value of another anywhere.
    O6,
    /// Nothing is acknowledged while the log is away.
    O7,
    /// The service recovers by itself, in time.
    O8,
    /// Every message of the log is delivered, verifies, and keeps its `webhook-id`.
    O9,
    /// Who ends on request answers what it has accepted.
    O10,
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = match self {
            Self::O1 => "O1 acknowledged, in the log once",
            Self::O2 => "O2 refused, not in the log",
            Self::O3 => "O3 unknown, in the log once at most",
            Self::O4 => "O4 versions without gaps",
            Self::O5 => "O5 read models are folds of the log",
            Self::O6 => "O6 tenants apart",
            Self::O7 => "O7 nothing acknowledged without a log",
            Self::O8 => "O8 recovers",
            Self::O9 => "O9 delivered and genuine",
            Self::O10 => "O10 accepted is answered",
        };
        f.write_str(promise)
    }
}

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub oracle: Oracle,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.what)
    }
}

/// What was found of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Broken promises; none is as it should be.
    pub violations: Vec<Violation>,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands whose outcome nobody told in the end.
    pub unknown: u64,
    /// Of the acknowledged commands and the messages of the log: not stored, or not delivered.
    pub lost: u64,
    /// Commands that were stored more than once.
    pub doubled: u64,
    /// Webhooks beyond the first of a message.
    pub duplicates: u64,
    /// From the end of the fault until a command and an event were acknowledged that were sent since.
    pub commands_again: Option<Duration>,
    /// From the end of the fault until a query knew everything acknowledged before.
    pub queries_again: Option<Duration>,
    /// From the end of the fault until every message published before was delivered.
    pub delivered_again: Option<Duration>,
    /// From the damage until it was noticed, where it had to be.
    pub noticed: Option<Duration>,
    /// What the case has told of the run.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether a run that breaks these promises on purpose was found out in each of them; without any, whether all were
    /// kept.
    pub fn is_as_it_must(&self, breaks: &[Oracle]) -> bool {
        let found = |oracle: &Oracle| {
            self.violations
                .iter()
                .any(|violation| violation.oracle == *oracle)
        };
        breaks.iter().all(found) && (self.is_sound() || !breaks.is_empty())
    }

    fn broken(&mut self, oracle: Oracle, what: impl Into<String>) {
        self.violations.push(Violation {
            oracle,
            what: what.into(),
        });
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict {
        noticed: evidence.noticed,
        notes: evidence.notes.clone(),
        ..Verdict::default()
    };
    let commands: Vec<Command> = commands(&evidence.history).into_values().collect();
    let facts = by_value(&evidence.log);
    for command in &commands {
        stored_as_told(&mut verdict, command, &facts);
        nothing_while_away(&mut verdict, command, evidence);
        answered_while_ending(&mut verdict, command, evidence);
    }
    nothing_unasked(&mut verdict, &commands, &facts);
    without_gaps(&mut verdict, &evidence.log);
    folded::judge(&mut verdict, evidence);
    apart(&mut verdict, evidence);
    recovered(&mut verdict, &commands, evidence);
    delivered::judge(&mut verdict, &commands, evidence);
    verdict
}

/// Tenant, kind and value of a command, and the facts it left.
type Facts<'a> = BTreeMap<(&'a str, Kind, &'a str), Vec<&'a Fact>>;

fn by_value(log: &[Stored]) -> Facts<'_> {
    let mut facts: Facts<'_> = BTreeMap::new();
    for stored in log {
        let tenant = stored.tenant.as_deref().unwrap_or_default();
        for fact in &stored.facts {
            let key = (tenant, fact.kind, fact.value.as_str());
            facts.entry(key).or_default().push(fact);
        }
    }
    facts
}

fn key(command: &Command) -> (&str, Kind, &str) {
    let asked = &command.asked;
    (&asked.tenant, asked.kind, &asked.value)
}

/// O1, O2, O3.
fn stored_as_told(verdict: &mut Verdict, command: &Command, facts: &Facts<'_>) {
    let stored = facts.get(&key(command)).map_or(&[][..], Vec::as_slice);
    let value = &command.asked.value;
    if stored.len() > 1 {
        verdict.doubled += 1;
    }
    match &command.outcome {
        Outcome::Ok(id) => {
            verdict.acknowledged += 1;
            match stored {
                [] => {
                    verdict.lost += 1;
                    verdict.broken(
                        Oracle::O1,
                        format!("{value} was acknowledged and is not in the log"),
                    );
                }
                [fact] if fact.id == *id => {}
                [fact] => {
                    let what = format!("{value} was acknowledged as {id} and is {}", fact.id);
                    verdict.broken(Oracle::O1, what);
                }
                more => {
                    let what = format!("{value} was acknowledged and is in the log {} times", more.len());
                    verdict.broken(Oracle::O1, what);
                }
            }
        }
        Outcome::Fail(why) => {
            if !stored.is_empty() {
                verdict.broken(
                    Oracle::O2,
                    format!("{value} was refused ({why}) and is in the log"),
                );
            }
            if !EXPLAINED.contains(&why.as_str()) {
                verdict.broken(
                    Oracle::O2,
                    format!("{value} was refused with {why}, which nothing explains"),
                );
            }
        }
        Outcome::Unknown => {
            verdict.unknown += 1;
            if stored.len() > 1 {
                let what = format!(
                    "{value} had no known outcome and is in the log {} times",
                    stored.len()
                );
                verdict.broken(Oracle::O3, what);
            }
        }
    }
}

/// O3, the other way round.
fn nothing_unasked(verdict: &mut Verdict, commands: &[Command], facts: &Facts<'_>) {
    let asked: BTreeSet<_> = commands.iter().map(key).collect();
    for (tenant, kind, value) in facts.keys().filter(|key| !asked.contains(key)) {
        let what = format!("{value} of {tenant} is in the log ({kind:?}), and nobody asked for it");
        verdict.broken(Oracle::O3, what);
    }
}

/// O4.
fn without_gaps(verdict: &mut Verdict, log: &[Stored]) {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    let mut aggregates: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for stored in log {
        let end = ends.entry(&stored.log).or_default();
        if stored.sequence != *end + 1 {
            let what = format!("{} has {} after {end}", stored.log, stored.sequence);
            verdict.broken(Oracle::O4, what);
        }
        *end = stored.sequence;
        let Some(commit) = &stored.commit else { continue };
        let before = aggregates.insert(&commit.aggregate, (commit.last, &commit.hash));
        let version = before.map_or(0, |(version, _)| version);
        if commit.first != version + 1 {
            let what = format!("{}: version {} follows {version}", commit.aggregate, commit.first);
            verdict.broken(Oracle::O4, what);
        }
        if commit.previous.as_deref() != before.map(|(_, hash)| hash) {
            let what = format!(
                "{}: the hashes do not go on at version {}",
                commit.aggregate, commit.first
            );
            verdict.broken(Oracle::O4, what);
        }
    }
}

/// O6.
fn apart(verdict: &mut Verdict, evidence: &Evidence) {
    let log = evidence.log.iter().map(|stored| {
        let what = format!("{} {}", stored.log, stored.sequence);
        (
            stored.tenant.clone().unwrap_or_default(),
            what,
            stored.mentions.clone(),
        )
    });
    let read = evidence
        .read
        .iter()
        .map(|read| (read.tenant.clone(), read.what.clone(), read.of.clone()));
    let received = evidence.received.iter().map(|webhook| {
        let what = format!("the webhook {}", webhook.id);
        (webhook.tenant.clone(), what, webhook.mentions.clone())
    });
    for (tenant, what, mentions) in log.chain(read).chain(received) {
        for other in mentions.iter().filter(|other| **other != tenant) {
            verdict.broken(
                Oracle::O6,
                format!("{what}, of {tenant:?}, holds a value of {other}"),
            );
        }
    }
}

/// O7.
fn nothing_while_away(verdict: &mut Verdict, command: &Command, evidence: &Evidence) {
    let (Outcome::Ok(_), Some(ended)) = (&command.outcome, command.ended) else {
        return;
    };
    for away in &evidence.away {
        if command.began >= away.from && ended <= away.to {
            let value = &command.asked.value;
            let what = format!("{value} was acknowledged at {ended:?}, and the log was away in {away:?}");
            verdict.broken(Oracle::O7, what);
        }
    }
}

/// O10.
fn answered_while_ending(verdict: &mut Verdict, command: &Command, evidence: &Evidence) {
    for ending in &evidence.ending {
        let told = command
            .unknown
            .iter()
            .filter(|(at, _)| (ending.from..=ending.to).contains(at));
        for (at, why) in told {
            let what = format!(
                "{} was accepted and not answered at {at:?}: {why}",
                command.asked.value
            );
            verdict.broken(Oracle::O10, what);
        }
    }
}

/// O8. Commands and events have logs of their own, and both must be there again.
fn recovered(verdict: &mut Verdict, commands: &[Command], evidence: &Evidence) {
    let first = |publishes: bool| {
        let ok = commands.iter().filter(|command| {
            let since = command.began >= evidence.healed;
            let log = (command.asked.kind == Kind::Publish) == publishes;
            since && log && matches!(command.outcome, Outcome::Ok(_))
        });
        ok.filter_map(|command| command.ended?.checked_sub(evidence.healed))
            .min()
    };
    // Where only one of them was asked for, that says it.
    verdict.commands_again = first(false).max(first(true));
    verdict.queries_again = evidence.queries_again;
    let measured = [
        ("commands", verdict.commands_again),
        ("queries", verdict.queries_again),
    ];
    let within = evidence.within.unwrap_or(RECOVERS_WITHIN);
    for (what, again) in measured {
        match again {
            Some(again) if again <= within => {}
            Some(again) => verdict.broken(Oracle::O8, format!("{what} took {again:?}")),
            None => verdict.broken(Oracle::O8, format!("{what} never worked again")),
        }
    }
}
