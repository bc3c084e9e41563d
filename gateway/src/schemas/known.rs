//! The event types in use, with their compiled schemas: bounded in memory, and never asked of the log while fresh.
//!
//! What is known of a type is true of the log as it was at most [`FRESH`] ago; what this process itself has changed
//! it knows at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry as HashEntry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use commands::{Dispatcher, Loaded};
use domain::event_type::EventTypeRegistration;
use domain::settings::Settings;
use domain::{EventType, EventTypeId, Root, TenantId};
use moka::sync::Cache;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;

use super::{Checker, Verdict};
use crate::problem::{FieldError, Problem, ProblemType};

/// How old what is known may be.
const FRESH: Duration = Duration::from_secs(5);
/// The memory for compiled schemas, about, in bytes.
const CAPACITY: u64 = 256 * 1024 * 1024;
/// What is remembered of a type that is not registered takes about this much.
const NOTHING_WEIGHS: u32 = 512;
/// The steps that checking the events of one request may take: a second or less. Reading every one of the numbers
/// that fit into the largest event takes a quarter of it.
const STEPS: u64 = 3_000_000;
/// The steps it may take among other requests, on a thread that serves them: some milliseconds.
const QUICK_STEPS: u64 = 10_000;
/// The data that are read on such a thread, in bytes: reading more takes as long.
const QUICK_BYTES: usize = 64 * 1024;

/// The types in use. Clones share what they know.
#[derive(Clone)]
pub(crate) struct Schemas(Arc<Shared>);

struct Shared {
    dispatcher: Dispatcher,
    known: Cache<String, Entry>,
    /// The versions of what this process has changed just now: nothing older is believed.
    changed: Cache<String, u64>,
    /// Of many that ask for the same type at once, one asks the log.
    turns: Box<[Mutex<()>]>,
    /// How much is compiled, or checked at length, at once.
    heavy: Semaphore,
}

/// What is known of a type.
#[derive(Debug, Clone)]
enum Known {
    /// It is not registered.
    Unregistered {
        /// Whether the tenant then wants no events of it.
        refused: bool,
    },
    /// It is: what its events are checked with.
    Registered(Arc<Checker>),
}

#[derive(Clone)]
struct Entry {
    /// The aggregate's version.
    version: u64,
    at: Instant,
    known: Known,
}

/// One event to check.
pub(crate) struct Subject<'e> {
    /// Its type.
    pub(crate) event_type: &'e EventType,
    /// Its data, as JSON.
    pub(crate) data: &'e str,
    /// Where the event stands in the request, as `events[2].`; nothing for a single one.
    pub(crate) place: String,
}

/// Data and what they are checked with.
struct Check {
    checker: Arc<Checker>,
    data: Arc<str>,
    name: String,
}

impl Schemas {
    /// Over the log of event types.
    pub(crate) fn new(dispatcher: Dispatcher) -> Self {
        let weigh = |_: &String, entry: &Entry| match &entry.known {
            Known::Unregistered { .. } => NOTHING_WEIGHS,
            Known::Registered(checker) => checker.weight(),
        };
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Shared {
            dispatcher,
            known: Cache::builder().weigher(weigh).max_capacity(CAPACITY).build(),
            changed: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(FRESH * 2)
                .build(),
            turns: (0..256).map(|_| Mutex::default()).collect(),
            heavy: Semaphore::new(cores),
        }))
    }

    /// Refuses events that do not fit their types, naming every place; and those of types that are not registered,
    /// where the tenant wants none.
    pub(crate) async fn check(&self, tenant: &TenantId, events: &[Subject<'_>]) -> Result<(), Problem> {
        let (mut checks, mut errors) = (Vec::new(), Vec::new());
        let mut types = HashMap::new();
        for event in events {
            let known = match types.entry(event.event_type) {
                HashEntry::Occupied(known) => known.into_mut(),
                HashEntry::Vacant(place) => place.insert(self.known(tenant, event.event_type).await?),
            };
            match known {
                Known::Unregistered { refused: false } => {}
                Known::Unregistered { refused: true } => {
                    if errors.len() < super::MAX_ERRORS {
                        errors.push(unregistered(event));
                    }
                }
                Known::Registered(checker) => checks.push(Check {
                    checker: Arc::clone(checker),
                    data: event.data.into(),
                    name: format!("{}data", event.place),
                }),
            }
        }
        errors.extend(self.violations(checks).await?);
        errors.truncate(super::MAX_ERRORS);
        if errors.is_empty() {
            return Ok(());
        }
        let detail =
            "Nothing was published. Mend what `errors` names, or have a look at the event type's schema.";
        let problem = Problem::new(ProblemType::SchemaViolation, detail);
        Err(errors
            .into_iter()
            .fold(problem, |problem, error| problem.at(error.path, error.message)))
    }

    async fn violations(&self, checks: Vec<Check>) -> Result<Vec<FieldError>, Problem> {
        if checks.is_empty() {
            return Ok(Vec::new());
        }
        let size: usize = checks.iter().map(|check| check.data.len()).sum();
        if size <= QUICK_BYTES
            && let Ok(errors) = run(&checks, QUICK_STEPS)
        {
            return Ok(errors);
        }
        let _place = self
            .0
            .heavy
            .acquire()
            .await
            .map_err(|error| Problem::unavailable(&error))?;
        let run = spawn_blocking(move || run(&checks, STEPS));
        let found = run.await.map_err(|error| failed(&error))?;
        Ok(found.unwrap_or_else(|exhausted| vec![exhausted]))
    }

    /// Compiles a schema off the threads that serve.
    pub(crate) async fn compile(
        &self,
        schema: domain::event_type::Schema,
    ) -> Result<Result<Checker, Vec<FieldError>>, Problem> {
        let _place = self
            .0
            .heavy
            .acquire()
            .await
            .map_err(|error| Problem::unavailable(&error))?;
        let compiled = spawn_blocking(move || Checker::compile(&schema)).await;
        compiled.map_err(|error| failed(&error))
    }

    /// Says that this process has changed a type: nothing known before it is believed from now on.
    pub(crate) fn changed(&self, tenant: &TenantId, event_type: &EventType, version: u64) {
        self.0.changed.insert(key(tenant, event_type), version);
    }

    /// What is known of a type.
    async fn known(&self, tenant: &TenantId, event_type: &EventType) -> Result<Known, Problem> {
        let key = key(tenant, event_type);
        if let Some(entry) = self.fresh(&key) {
            return Ok(entry.known);
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let turn = usize::try_from(hasher.finish() % self.0.turns.len() as u64).unwrap_or_default();
        let _turn = self.0.turns[turn].lock().await;
        if let Some(entry) = self.fresh(&key) {
            return Ok(entry.known);
        }
        let at = Instant::now();
        let least = self.0.changed.get(&key).unwrap_or_default();
        let id = EventTypeId::derive(event_type);
        let loaded: Loaded<EventTypeRegistration> = self.load(tenant, id.as_str(), least).await?;
        let known = self.learn(&key, tenant, &loaded).await?;
        let entry = Entry {
            version: loaded.version,
            at,
            known: known.clone(),
        };
        self.0.known.insert(key, entry);
        Ok(known)
    }

    fn fresh(&self, key: &str) -> Option<Entry> {
        let entry = self.0.known.get(key)?;
        let least = self.0.changed.get(key).unwrap_or_default();
        (entry.at.elapsed() < FRESH && entry.version >= least).then_some(entry)
    }

    async fn learn(
        &self,
        key: &str,
        tenant: &TenantId,
        loaded: &Loaded<EventTypeRegistration>,
    ) -> Result<Known, Problem> {
        let Some((_, schema)) = loaded.aggregate.latest() else {
            let settings: Loaded<Settings> = self.load(tenant, tenant.as_str(), 0).await?;
            return Ok(Known::Unregistered {
                refused: settings.aggregate.current().strict_event_types,
            });
        };
        let before = self
            .0
            .known
            .get(key)
            .filter(|entry| entry.version == loaded.version);
        if let Some(Entry {
            known: known @ Known::Registered(_),
            ..
        }) = before
        {
            return Ok(known);
        }
        match self.compile(schema.clone()).await? {
            Ok(checker) => Ok(Known::Registered(Arc::new(checker))),
            Err(errors) => {
                tracing::error!(%tenant, ?errors, "A registered schema cannot be compiled; events of its type are refused.");
                Err(Problem::new(
                    ProblemType::Internal,
                    "The schema of this event type cannot be applied; nothing was published.",
                ))
            }
        }
    }

    /// An aggregate as it was a moment ago, and of this version at least.
    async fn load<A: Root>(&self, tenant: &TenantId, id: &str, least: u64) -> Result<Loaded<A>, Problem> {
        let load = |max_age| self.0.dispatcher.load::<A>(tenant, id, max_age);
        // The cache of aggregates has an age of its own, which would come on top of ours.
        let loaded = load(Duration::ZERO)
            .await
            .map_err(|error| Problem::unavailable(&error))?;
        if loaded.version < least {
            return Err(Problem::new(
                ProblemType::Unavailable,
                "The log is behind what was just written; nothing was published.",
            ));
        }
        Ok(loaded)
    }
}

/// Checks one after the other with the same budget; an error means that it did not last.
fn run(checks: &[Check], mut steps: u64) -> Result<Vec<FieldError>, FieldError> {
    let mut errors = Vec::new();
    for check in checks {
        let value = match serde_json::from_str(&check.data) {
            Ok(value) => value,
            Err(error) => {
                errors.push(super::places::error(&check.name, &error.to_string()));
                continue;
            }
        };
        let (verdict, left) = check.checker.check(&value, &check.name, steps);
        steps = left;
        match verdict {
            Verdict::Fits => {}
            Verdict::Violates(found) => errors.extend(found),
            Verdict::Exhausted => {
                let message =
                    "takes too long to check with the schema of its type: make data or schema simpler";
                return Err(super::places::error(&check.name, message));
            }
        }
        if errors.len() >= super::MAX_ERRORS {
            break;
        }
    }
    Ok(errors)
}

fn unregistered(event: &Subject<'_>) -> FieldError {
    let message = format!(
        "there is no event type {}: register it, or let the setting `strict_event_types` be false",
        event.event_type
    );
    super::places::error(&format!("{}type", event.place), &message)
}

fn key(tenant: &TenantId, event_type: &EventType) -> String {
    format!("{tenant}.{event_type}")
}

fn failed(error: &tokio::task::JoinError) -> Problem {
    Problem::caused(ProblemType::Internal, "The data could not be checked.", error)
}
