//! What an attempt needs before anything can be sent: the endpoint, the message, the signature.

use std::time::{Duration, SystemTime};

use broker::layout::{Log, Shard};
use broker::{Lease, ReadError};
use domain::endpoint::policy::HeaderValue as Value;
use domain::tenant::Standing;
use domain::{EndpointId, InvalidId, Message, SecretId, TenantId, Timestamp};
use reqwest::header::{HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};
use std::sync::Arc;

use super::Worker;
use crate::body::body;
use crate::endpoints::Endpoint;
use crate::post::{Proof, Request, Stamp, sensitive};
use crate::sign::sign_by;
use crate::work::Work;
use crate::{Secret, SecretError, SecretText};

/// How long an attempt waits for the index of endpoints to catch up.
const INDEX_PATIENCE: Duration = Duration::from_secs(5);

/// Who a job is for.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    pub(super) tenant: TenantId,
    pub(super) endpoint: EndpointId,
}

impl Receiver {
    pub(super) fn of(lease: &Lease) -> Result<Self, InvalidId> {
        Ok(Self {
            tenant: lease.job.tenant.as_str().parse()?,
            endpoint: lease.job.lane.as_str().parse()?,
        })
    }
}

/// Everything to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) published_at: SystemTime,
    pub(super) request: Request,
}

/// What an endpoint's policy sends with each request, its secrets opened.
struct Opened {
    headers: Vec<(HeaderName, HeaderValue)>,
    proof: Proof,
}

/// What is kept of a policy cannot be sent: only another program could have kept it.
#[derive(Debug, thiserror::Error)]
#[error("a header of the endpoint cannot be sent")]
struct Unsendable;

impl From<InvalidHeaderName> for Unsendable {
    fn from(_: InvalidHeaderName) -> Self {
        Self
    }
}

impl From<InvalidHeaderValue> for Unsendable {
    fn from(_: InvalidHeaderValue) -> Self {
        Self
    }
}

impl From<Unsendable> for Hindrance {
    fn from(unsendable: Unsendable) -> Self {
        Self::Failed(unsendable.to_string())
    }
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hindrance {
    /// The attempt failed; others may not.
    #[error("{0}")]
    Failed(String),
    /// No attempt can help until somebody does something.
    #[error("{0}")]
    Hopeless(&'static str),
    /// The tenant was suspended while the job waited for its turn: it comes again after this time.
    #[error("the tenant is suspended")]
    Suspended(Duration),
    /// A part of Tidings is away, which is no fault of the receiver: the attempt doesn't count.
    #[error("{what} cannot be had")]
    Away {
        what: &'static str,
        #[source]
        cause: broker::Cause,
    },
}

impl Worker {
    pub(super) async fn prepare(&self, work: &Work, to: &Receiver) -> Result<Prepared, Hindrance> {
        let (endpoint, opened) = self.endpoint_opened(work, to).await?;
        self.admit(&to.tenant)
            .map_err(|suspended| Hindrance::Suspended(suspended.0))?;
        if let Standing::Terminated(_) = self.endpoints.standing(&to.tenant) {
            return Err(Hindrance::Hopeless("the tenant was terminated"));
        }
        let message = self.message(work).await?;
        if message.tenant != to.tenant {
            return Err(Hindrance::Hopeless("the message is another tenant's"));
        }
        let now = Timestamp::from(SystemTime::now());
        let secrets = self.secrets(&endpoint, to, now).await?;
        let timestamp = now.as_seconds();
        let policy = &endpoint.settings.policy;
        let body = body(&message, policy.format);
        let id = work.message.id.as_str();
        let signature = sign_by(policy.signature, &secrets, id, timestamp, &body.bytes);
        let stamp = Stamp {
            id,
            timestamp,
            signature: &signature,
        };
        let request =
            Request::new(policy, opened.headers, opened.proof, body, stamp).map_err(Unsendable::from)?;
        Ok(Prepared {
            endpoint,
            published_at: message.published_at.into(),
            request,
        })
    }

    /// The endpoint, with what its policy keeps secret. A secret that is not there may have been replaced, which the
    /// index then learns of.
    async fn endpoint_opened(
        &self,
        work: &Work,
        to: &Receiver,
    ) -> Result<(Arc<Endpoint>, Opened), Hindrance> {
        let known = self.endpoint(work, to).await?;
        if let Some(opened) = self.open(&known, to).await? {
            return Ok((known, opened));
        }
        self.index_current(work.message.position.shard).await?;
        let now = self.endpoint(work, to).await?;
        match self.open(&now, to).await? {
            Some(opened) => Ok((now, opened)),
            None => Err(Hindrance::Failed(SecretError::Missing.to_string())),
        }
    }

    /// What the policy sends; none where a secret of it is not there.
    async fn open(&self, endpoint: &Endpoint, to: &Receiver) -> Result<Option<Opened>, Hindrance> {
        let policy = &endpoint.settings.policy;
        let mut headers = Vec::with_capacity(policy.headers.len());
        for header in &policy.headers {
            let value = match &header.value {
                Value::Plain(text) => HeaderValue::from_str(text.as_str()),
                Value::Secret(name) => match self.open_text(to, name).await? {
                    Some(text) => sensitive(text.reveal()),
                    None => return Ok(None),
                },
            };
            let name = HeaderName::try_from(header.name.as_str()).map_err(Unsendable::from)?;
            headers.push((name, value.map_err(Unsendable::from)?));
        }
        let Some(setting) = &policy.authentication else {
            let proof = Proof::None;
            return Ok(Some(Opened { headers, proof }));
        };
        let Some(secret) = self.open_text(to, setting.secret()).await? else {
            return Ok(None);
        };
        let proof = Proof::new(setting, secret).map_err(Unsendable::from)?;
        Ok(Some(Opened { headers, proof }))
    }

    async fn open_text(&self, to: &Receiver, name: &SecretId) -> Result<Option<SecretText>, Hindrance> {
        match self.secrets.open_text(&to.tenant, &to.endpoint, name).await {
            Ok(text) => Ok(Some(text)),
            Err(SecretError::Missing) => Ok(None),
            Err(error @ SecretError::Unreadable) => Err(Hindrance::Failed(error.to_string())),
            Err(SecretError::Unavailable(cause)) => Err(Hindrance::Away {
                what: "a secret of the endpoint",
                cause: cause.into(),
            }),
        }
    }

    /// What to sign with: the endpoint's secret, and during a rotation the one before it too.
    async fn secrets(
        &self,
        endpoint: &Endpoint,
        to: &Receiver,
        now: Timestamp,
    ) -> Result<Vec<Secret>, Hindrance> {
        let mut secrets = Vec::with_capacity(2);
        for name in endpoint.secrets.signing_at(now) {
            match self.secrets.open(&to.tenant, &to.endpoint, name).await {
                Ok(secret) => secrets.push(secret),
                Err(SecretError::Unavailable(cause)) => {
                    return Err(Hindrance::Away {
                        what: "the signing secret",
                        cause: cause.into(),
                    });
                }
                // Another rotation has ended the older one, which the index doesn't know yet.
                Err(SecretError::Missing) if !secrets.is_empty() => {}
                Err(error @ (SecretError::Missing | SecretError::Unreadable)) => {
                    return Err(Hindrance::Failed(error.to_string()));
                }
            }
        }
        Ok(secrets)
    }

    /// The endpoint, if it is there and enabled; looked up again in a fresh index before it is said not to be.
    async fn endpoint(&self, work: &Work, to: &Receiver) -> Result<Arc<Endpoint>, Hindrance> {
        let shard = work.message.position.shard;
        let find = || self.endpoints.get(shard, &to.tenant, &to.endpoint);
        if let Some(endpoint) = find().filter(|endpoint| endpoint.enabled) {
            return Ok(endpoint);
        }
        self.index_current(shard).await?;
        match find() {
            None => Err(Hindrance::Hopeless("the endpoint was removed")),
            Some(endpoint) if !endpoint.enabled => Err(Hindrance::Hopeless("the endpoint is disabled")),
            Some(endpoint) => Ok(endpoint),
        }
    }

    async fn index_current(&self, shard: Shard) -> Result<(), Hindrance> {
        let away = |cause| Hindrance::Away {
            what: "the endpoint's settings",
            cause,
        };
        tokio::time::timeout(INDEX_PATIENCE, self.endpoints.current(shard))
            .await
            .map_err(|late| away(late.into()))?
            .map_err(|error| away(error.into()))
    }

    pub(super) async fn message(&self, work: &Work) -> Result<Message, Hindrance> {
        let away = |error: ReadError| Hindrance::Away {
            what: "the message",
            cause: error.into(),
        };
        let position = work.message.position;
        if position.shard >= self.engine.layout().shards {
            return Err(Hindrance::Hopeless(
                "the message is of a shard that does not exist",
            ));
        }
        let log = self.engine.log(Log::Messages(position.shard));
        let read = log.read(position.sequence.saturating_sub(1), None, 1).await;
        let found = read.map_err(away)?.pop();
        if let Some(record) = found.filter(|record| record.sequence == position.sequence) {
            return Message::decode(&record.payload)
                .map_err(|_| Hindrance::Hopeless("the message cannot be read"));
        }
        // Only the log's bounds prove it gone; a replica may merely be behind.
        if log.state().await.map_err(away)?.first > position.sequence {
            return Err(Hindrance::Hopeless(
                "the message was kept for its time and is gone",
            ));
        }
        Err(away(ReadError::Unavailable("the record is not there yet".into())))
    }
}
