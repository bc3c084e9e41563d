//! What clients asked for and what they were told, as plain data, and what that says of each command.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Registers a user, whose e-mail address is the value.
    Register,
    /// Gives a user a name, which is the value.
    Rename,
    /// Publishes an event, whose data hold the value.
    Publish,
}

/// What is asked for: the value occurs in no other command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// By which tenant.
    pub tenant: String,
    /// What it does.
    pub kind: Kind,
    /// What it leaves in the log.
    pub value: String,
}

/// One step of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is sent; under an idempotency key perhaps not for the first time.
    Invoke(Asked),
    /// It was answered with a 2xx, and what was made has this id.
    Ok(String),
    /// It was refused for this reason, or never sent: nothing has happened.
    Fail(String),
    /// Whether it has happened was not told.
    Unknown(String),
}

/// A step at its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Since the run began.
    pub at: Duration,
    /// Which command of the run.
    pub command: u64,
    /// What happened.
    #[serde(flatten)]
    pub step: Step,
}

/// What a client knows of a command in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has happened, and made something of this id.
    Ok(String),
    /// It has not happened.
    Fail(String),
    /// Nobody said.
    Unknown,
}

/// A command with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What was asked.
    pub asked: Asked,
    /// When it was sent last.
    pub began: Duration,
    /// When it was answered last; never, if it was not.
    pub ended: Option<Duration>,
    /// What is known.
    pub outcome: Outcome,
    /// When, and as what, one of its tries had an unknown outcome.
    pub unknown: Vec<(Duration, String)>,
}

/// The commands of a history by their numbers. One that succeeded in any of its tries is acknowledged; one that was
/// refused is a failure only if no try before might have happened.
pub fn commands(history: &[Entry]) -> BTreeMap<u64, Command> {
    let mut commands: BTreeMap<u64, Command> = BTreeMap::new();
    // Tries that were sent and not answered yet.
    let mut open: BTreeMap<u64, Outcome> = BTreeMap::new();
    for entry in history {
        if let Step::Invoke(asked) = &entry.step {
            let command = commands.entry(entry.command).or_insert_with(|| Command {
                asked: asked.clone(),
                began: entry.at,
                ended: None,
                outcome: Outcome::Unknown,
                unknown: Vec::new(),
            });
            let before = command.ended.map(|_| command.outcome.clone());
            command.began = entry.at;
            if !matches!(command.outcome, Outcome::Ok(_)) {
                command.outcome = Outcome::Unknown;
            }
            open.insert(entry.command, before.unwrap_or(Outcome::Fail(String::new())));
            continue;
        }
        let Some(command) = commands.get_mut(&entry.command) else {
            continue;
        };
        command.ended = Some(entry.at);
        let before = open.remove(&entry.command);
        command.outcome = match (&entry.step, before) {
            (Step::Ok(id), _) => Outcome::Ok(id.clone()),
            (_, Some(Outcome::Ok(id))) => Outcome::Ok(id),
            (Step::Fail(why), Some(Outcome::Fail(_))) => Outcome::Fail(why.clone()),
            _ => Outcome::Unknown,
        };
        if let Step::Unknown(why) = &entry.step {
            command.unknown.push((entry.at, why.clone()));
        }
    }
    commands
}

/// Takes down the history while it happens.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    clock: SystemTime,
    entries: Mutex<Vec<Entry>>,
    acknowledged: watch::Sender<u64>,
    next: AtomicU64,
    /// The highest place in the log of events that an answer named.
    position: AtomicU64,
}

impl Recorder {
    /// An empty history that begins now.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            clock: SystemTime::now(),
            entries: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            next: AtomicU64::new(1),
            position: AtomicU64::new(0),
        }
    }

    /// The time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A moment of the wall clock as time since the run began.
    pub(crate) fn since(&self, moment: SystemTime) -> Duration {
        moment.duration_since(self.clock).unwrap_or_default()
    }

    /// The number of the next command.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes down what an answer says of where it stands, as `e0-17`.
    pub(crate) fn stands_at(&self, position: &str) {
        let sequence = position.strip_prefix("e0-").and_then(|text| text.parse().ok());
        self.position
            .fetch_max(sequence.unwrap_or_default(), Ordering::Relaxed);
    }

    /// The end of what was acknowledged in the log of events, as `e0-17`.
    pub(crate) fn position(&self) -> String {
        format!("e0-{}", self.position.load(Ordering::Relaxed))
    }

    /// Takes down a step that happens now.
    pub(crate) fn take(&self, command: u64, step: Step) {
        let acknowledged = matches!(step, Step::Ok(_));
        // The time is taken under the lock, so that entries are in its order.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.now();
        entries.push(Entry { at, command, step });
        drop(entries);
        if acknowledged {
            self.acknowledged.send_modify(|count| *count += 1);
        }
    }

    /// How many commands were acknowledged, to wait for.
    pub(crate) fn acknowledged(&self) -> watch::Receiver<u64> {
        self.acknowledged.subscribe()
    }

    /// All that was taken down.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The same, of which nothing is kept.
    pub(crate) fn drain(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(steps: &[Step]) -> Option<Outcome> {
        let mut history = Vec::new();
        for (step, at) in steps.iter().zip(0..) {
            history.push(Entry {
                at: Duration::from_millis(at),
                command: 1,
                step: step.clone(),
            });
        }
        commands(&history).remove(&1).map(|command| command.outcome)
    }

    #[test]
    fn a_command_is_what_its_tries_say_together() {
        let invoke = || {
            Step::Invoke(Asked {
                tenant: "acme".to_owned(),
                kind: Kind::Publish,
                value: "v".to_owned(),
            })
        };
        let (ok, fail) = (Step::Ok("evt".to_owned()), Step::Fail("away".to_owned()));
        let unknown = Step::Unknown("silence".to_owned());
        let known = Some(Outcome::Ok("evt".to_owned()));
        assert_eq!(outcome(&[invoke()]), Some(Outcome::Unknown), "never answered");
        assert_eq!(outcome(&[invoke(), ok.clone()]), known);
        assert_eq!(
            outcome(&[invoke(), fail.clone()]),
            Some(Outcome::Fail("away".to_owned()))
        );
        assert_eq!(outcome(&[invoke(), unknown.clone(), invoke(), ok.clone()]), known);
        let again = [invoke(), unknown.clone(), invoke(), fail.clone()];
        assert_eq!(
            outcome(&again),
            Some(Outcome::Unknown),
            "the first try may have happened"
        );
        assert_eq!(
            outcome(&[invoke(), fail.clone(), invoke(), fail]),
            Some(Outcome::Fail("away".to_owned()))
        );
        assert_eq!(outcome(&[invoke(), ok, invoke(), unknown]), known);
    }
}
