//! Whether the process can do its work: the log, the read models, the projectors, and delivery.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::layout::Log;
use broker::{Distrust, Engine, Trust};
use delivery::Delivery;
use domain::TenantId;
use projections::{Page, ProjectionStatus, Projectors, ReadModels, UserFilter};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::operations::Operations;

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long projectors may take to commit what they have in hand, should their database be silent.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What runs in the background of this process.
#[derive(Default)]
pub(crate) struct Background {
    /// What carries out operators' decisions about the projectors.
    pub(crate) operations: Option<Operations>,
    /// The projectors.
    pub(crate) projectors: Option<Projectors>,
    /// Delivery.
    pub(crate) delivery: Option<Delivery>,
}

/// What is asked for the report.
pub(crate) struct Health {
    engine: Arc<dyn Engine>,
    trust: Trust,
    read_models: Option<ReadModels>,
    background: Mutex<Background>,
    stopping: CancellationToken,
}

/// The answer of `/health/ready`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// Whether requests should come here.
    #[serde(skip)]
    pub(crate) ready: bool,
    /// What was looked at.
    parts: BTreeMap<&'static str, Part>,
    /// Each projection of this process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    projections: Vec<ProjectionReport>,
}

/// One part of the process.
#[derive(Debug, Serialize)]
struct Part {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// One projection.
#[derive(Debug, Serialize)]
struct ProjectionReport {
    name: &'static str,
    /// Records of its logs that it has not folded yet.
    lag_records: u64,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// How many tenants stand still because of a record that cannot be applied.
    parked_tenants: usize,
}

impl Part {
    fn of(detail: Option<String>) -> Self {
        Self {
            ready: detail.is_none(),
            detail,
        }
    }
}

impl Health {
    /// Over the parts of this process; `stopping` is cancelled when it is asked to stop.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        trust: Trust,
        read_models: Option<ReadModels>,
        background: Background,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            engine,
            trust,
            read_models,
            background: Mutex::new(background),
            stopping,
        }
    }

    /// After the background was told to stop: waits until it has.
    pub(crate) async fn background_ended(&self) {
        let background = std::mem::take(&mut *self.background.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(delivery) = background.delivery {
            delivery.join().await;
        }
        if let Some(projectors) = background.projectors
            && tokio::time::timeout(LAST_COMMIT, projectors.join())
                .await
                .is_err()
        {
            tracing::warn!("projectors did not end in time: what they had in hand will be folded again");
        }
        if let Some(operations) = background.operations
            && tokio::time::timeout(LAST_COMMIT, operations.join())
                .await
                .is_err()
        {
            tracing::warn!("a replay did not pause in time: it goes on from its last batch");
        }
    }

    /// How the projections of this process are doing.
    pub(crate) fn projections(&self) -> Vec<ProjectionStatus> {
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        background
            .projectors
            .as_ref()
            .map(Projectors::status)
            .unwrap_or_default()
    }

    /// Looks at every part.
    pub(crate) async fn report(&self) -> Report {
        let mut parts = BTreeMap::new();
        if self.stopping.is_cancelled() {
            parts.insert("process", Part::of(Some("it is stopping".to_owned())));
        }
        let (log, read_models) = tokio::join!(self.log(), self.read_models());
        parts.insert("log", Part::of(log));
        if self.read_models.is_some() {
            parts.insert("read_models", Part::of(read_models));
        }
        let projections = self.background(&mut parts);
        let ready = parts.values().all(|part| part.ready);
        Report {
            status: if ready { "ready" } else { "not_ready" },
            ready,
            parts,
            projections,
        }
    }

    fn background(&self, parts: &mut BTreeMap<&'static str, Part>) -> Vec<ProjectionReport> {
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(delivery) = &background.delivery {
            let troubles = delivery.status().troubles;
            parts.insert(
                "delivery",
                Part::of((!troubles.is_empty()).then(|| troubles.join("; "))),
            );
        }
        let Some(projectors) = &background.projectors else {
            return Vec::new();
        };
        let projections: Vec<_> = projectors
            .status()
            .into_iter()
            .map(ProjectionReport::from)
            .collect();
        let failing = projections.iter().find_map(|projection| {
            projection
                .last_error
                .as_ref()
                .map(|error| format!("{}: {error}", projection.name))
        });
        parts.insert("projections", Part::of(failing));
        projections
    }

    async fn log(&self) -> Option<String> {
        if let Some(why) = self.trust.lost() {
            return Some(format!("{why} {}", Distrust::ADVICE));
        }
        bounded("the log", self.engine.log(Log::Events(0)).state()).await
    }

    async fn read_models(&self) -> Option<String> {
        let read_models = self.read_models.as_ref()?;
        let platform = TenantId::platform();
        let page = Page {
            limit: Some(1),
            cursor: None,
        };
        let users = read_models.users(&platform);
        bounded("the read database", users.list(&UserFilter::default(), &page)).await
    }
}

impl From<ProjectionStatus> for ProjectionReport {
    fn from(status: ProjectionStatus) -> Self {
        Self {
            name: status.name,
            lag_records: status.lag_records,
            last_error: status.last_error,
            parked_tenants: status.parked.len(),
        }
    }
}

/// What is wrong with a part, if it does not answer well in time.
async fn bounded<T, E: std::error::Error + 'static>(
    what: &str,
    answer: impl Future<Output = Result<T, E>>,
) -> Option<String> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "{what} does not answer as it should"
            );
            Some(error.to_string())
        }
        Err(_) => Some(format!("{what} does not answer")),
    }
}
