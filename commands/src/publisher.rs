//! The publisher: accepts tenants' application events into the log of messages.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use broker::layout::{Bucket, Log};
use broker::{
    AppendError, Appended, Cause, Engine, EventLog, KvError, MAX_APPEND, MAX_RECORD, NewRecord, ReadError,
    Subject,
};
use bytes::Bytes;
use domain::{Actor, EndpointId, EventId, EventType, Message, Position, Source, TenantId, Timestamp};
use futures::future::try_join_all;

use crate::receipts::{Known, Receipts};
use crate::{SHARD, metrics, search};

/// The most events one call can publish.
pub const MAX_BULK: usize = MAX_APPEND;

/// The largest data of one event, in bytes.
pub const MAX_DATA_BYTES: usize = 512 * 1024;

/// What a message says besides its data takes less than this.
const ENVELOPE: usize = 64 * 1024;
const _: () = assert!(
    MAX_DATA_BYTES + ENVELOPE <= MAX_RECORD,
    "every engine takes every message"
);

/// An event to publish.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id, where the client chose one: publishing the same event under it again, within a day, gives the same
    /// answer.
    pub id: Option<EventId>,
    /// Its id otherwise: one that nobody else can have, and that a repeated request draws again.
    pub drawn: EventId,
    /// What it is about.
    pub event_type: EventType,
    /// The client's JSON, to the byte.
    pub data: Bytes,
    /// The one endpoint it is for; all that want it, unless given.
    pub only_for: Option<EndpointId>,
}

/// Who publishes, and when.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who.
    pub actor: Actor,
    /// The HTTP request it came with.
    pub request_id: Option<String>,
    /// What belongs together across requests.
    pub correlation_id: Option<String>,
    /// What directly led to this.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// When it was accepted.
    pub at: Timestamp,
    /// The request is a repetition of one that began at this time, and may have published already.
    pub repeats: Option<Timestamp>,
}

/// An event that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: EventId,
    /// Where it stands.
    pub position: Position,
    /// It was there already.
    pub duplicate: bool,
}

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another event was published under this id. Nothing happened.
    #[error("another event was published under the id {0}")]
    IdReused(EventId),
    /// The data is larger than allowed. Nothing happened.
    #[error("an event of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The size refused.
        bytes: usize,
        /// The size allowed.
        limit: usize,
    },
    /// More events than one call can publish. Nothing happened.
    #[error("one call can publish at most {limit} events")]
    TooMany {
        /// The number allowed.
        limit: usize,
    },
    /// More waits to be stored than this process takes. Nothing happened; it can be sent again a moment later.
    #[error("too much is waiting to be stored")]
    Busy,
    /// The log is away. Nothing happened.
    #[error("the log is unavailable")]
    Unavailable(#[source] Cause),
    /// The log did not say whether it stored the events. Under ids of the client's choice they can be sent again.
    #[error("the outcome is unknown")]
    Unknown(#[source] Cause),
}

impl From<AppendError> for PublishError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            AppendError::Busy => Self::Busy,
            AppendError::Unknown(cause) => Self::Unknown(cause),
            AppendError::Unavailable(cause) => Self::Unavailable(cause),
            AppendError::Conflict { .. } | AppendError::Malformed(_) => Self::Unavailable(Box::new(error)),
        }
    }
}

impl From<KvError> for PublishError {
    fn from(error: KvError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// Publishes events. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    log: Arc<dyn EventLog>,
    receipts: Receipts,
}

/// One event on its way: what its id is known to be, and its message unless it is in the log already.
struct Prepared {
    id: EventId,
    known: Option<Known>,
    draft: Draft,
}

impl Publisher {
    /// Over an engine's log of messages.
    pub fn new(engine: &dyn Engine) -> Self {
        Self {
            log: engine.log(Log::Messages(SHARD)),
            receipts: Receipts(engine.bucket(Bucket::Receipts)),
        }
    }

    /// Publishes events; each is answered by itself, in the order given. All that are new are appended together,
    /// in this order.
    pub async fn publish(
        &self,
        tenant: &TenantId,
        drafts: Vec<Draft>,
        origin: Origin,
    ) -> Result<Vec<Result<Published, PublishError>>, PublishError> {
        if drafts.len() > MAX_BULK {
            return Err(PublishError::TooMany { limit: MAX_BULK });
        }
        let prepared = try_join_all(
            drafts
                .into_iter()
                .map(|draft| self.prepare(tenant, draft, origin.at)),
        )
        .await?;
        self.append(tenant, prepared, origin).await
    }

    /// Appends those events that are new, and answers each.
    async fn append(
        &self,
        tenant: &TenantId,
        prepared: Vec<Prepared>,
        origin: Origin,
    ) -> Result<Vec<Result<Published, PublishError>>, PublishError> {
        let stored = self.stored_before(tenant, &prepared, &origin).await?;
        let mut records = Vec::with_capacity(prepared.len());
        let mut seen = HashSet::new();
        for event in prepared.iter().filter(|event| event.is_new()) {
            // An id given twice in one call is one event; had the two differed, the receipt would have told.
            if seen.insert(&event.id) && !stored.contains_key(&message_id(tenant, &event.id)) {
                records.push(record(tenant, event, &origin)?);
            }
        }
        let ids: Vec<String> = records.iter().map(|record| record.message_id.clone()).collect();
        let appended = if records.is_empty() {
            Vec::new()
        } else {
            self.log.append(records).await?
        };
        let fresh = appended.iter().filter(|record| !record.duplicate).count();
        ::metrics::counter!(metrics::MESSAGES).increment(fresh as u64);
        let places: HashMap<_, _> = ids.into_iter().zip(appended).chain(stored).collect();
        let answers = prepared.into_iter().map(async |event| {
            let place = places.get(&message_id(tenant, &event.id)).copied();
            self.answer(event, place).await
        });
        Ok(futures::future::join_all(answers).await)
    }

    /// Publishes what another system sent, under the id that the draft names. Whatever else differs, a draft of the
    /// same id that tells the same `sent` is the same event sent again, and one that tells another is another event:
    /// senders may word an event anew when they repeat it.
    pub async fn publish_once(
        &self,
        tenant: &TenantId,
        draft: Draft,
        sent: &str,
        origin: Origin,
    ) -> Result<Published, PublishError> {
        let id = draft.id.clone().unwrap_or_else(|| draft.drawn.clone());
        if draft.data.len() > MAX_DATA_BYTES {
            return Err(PublishError::TooLarge {
                bytes: draft.data.len(),
                limit: MAX_DATA_BYTES,
            });
        }
        let known = self
            .receipts
            .begin(tenant, &id, &[sent.as_bytes()], origin.at)
            .await?;
        let prepared = Prepared {
            id: id.clone(),
            known: Some(known),
            draft,
        };
        let published = self.append(tenant, vec![prepared], origin).await?;
        published
            .into_iter()
            .next()
            .unwrap_or(Err(PublishError::IdReused(id)))
    }

    /// Whether an event of this id was published within the last day.
    pub async fn knows(&self, tenant: &TenantId, id: &EventId) -> Result<bool, PublishError> {
        Ok(self.receipts.is_stored(tenant, id).await?)
    }

    /// The message at a position of the log of messages; none, if retention has removed it or nothing stands there.
    pub async fn read(&self, position: Position) -> Result<Option<Message>, ReadError> {
        if position.source != Source::Messages || position.shard != SHARD || position.sequence == 0 {
            return Ok(None);
        }
        let records = self.log.read(position.sequence - 1, None, 1).await?;
        let Some(record) = records
            .into_iter()
            .find(|record| record.sequence == position.sequence)
        else {
            return Ok(None);
        };
        Message::decode(&record.payload)
            .map(Some)
            .map_err(|error| ReadError::Damaged {
                sequence: record.sequence,
                cause: Box::new(error),
            })
    }

    /// Where those of the new events stand that an earlier try, of which nobody heard, has stored.
    async fn stored_before(
        &self,
        tenant: &TenantId,
        prepared: &[Prepared],
        origin: &Origin,
    ) -> Result<HashMap<String, Appended>, PublishError> {
        let tries = prepared
            .iter()
            .filter(|event| event.is_new())
            .filter_map(|event| {
                let begun = match event.known {
                    Some(Known::Open { begun, .. }) => begun,
                    _ => None,
                };
                let first = begun.into_iter().chain(origin.repeats).min()?;
                Some((message_id(tenant, &event.id), first))
            });
        let (ids, times): (Vec<_>, Vec<_>) = tries.unzip();
        let Some(since) = times.into_iter().min() else {
            return Ok(HashMap::new());
        };
        let found = search::published(&*self.log, tenant, ids, since).await;
        found.map_err(|error| PublishError::Unavailable(Box::new(error)))
    }

    async fn prepare(
        &self,
        tenant: &TenantId,
        draft: Draft,
        at: Timestamp,
    ) -> Result<Prepared, PublishError> {
        let Some(id) = draft.id.clone() else {
            return Ok(Prepared {
                id: draft.drawn.clone(),
                known: None,
                draft,
            });
        };
        if draft.data.len() > MAX_DATA_BYTES {
            // Refused below; no receipt, so that a smaller event can have the id.
            return Ok(Prepared {
                id,
                known: None,
                draft,
            });
        }
        let content = [draft.event_type.as_str().as_bytes(), &draft.data];
        let known = self.receipts.begin(tenant, &id, &content, at).await?;
        Ok(Prepared {
            id,
            known: Some(known),
            draft,
        })
    }

    async fn answer(&self, event: Prepared, place: Option<Appended>) -> Result<Published, PublishError> {
        let Prepared { id, known, draft } = event;
        let open = match known {
            Some(Known::Other) => return Err(PublishError::IdReused(id)),
            Some(Known::Stored(position)) => {
                return Ok(Published {
                    id,
                    position,
                    duplicate: true,
                });
            }
            Some(Known::Open {
                key,
                content,
                revision,
                begun: _,
            }) => Some((key, content, revision)),
            None => None,
        };
        let chosen = open.is_some();
        let place = place.ok_or(PublishError::TooLarge {
            bytes: draft.data.len(),
            limit: MAX_DATA_BYTES,
        })?;
        let position = Position {
            source: Source::Messages,
            shard: SHARD,
            sequence: place.sequence,
        };
        // The event is in the log: a receipt that could not be finished must not turn that into an error.
        if let Some((key, content, revision)) = open
            && let Err(error) = self.receipts.finish(&key, content, revision, position).await
        {
            tracing::warn!(%id, %error, "the receipt of a published event could not be finished");
        }
        Ok(Published {
            id,
            position,
            // An id that was drawn is the same request's: its first answer said no such thing either.
            duplicate: chosen && place.duplicate,
        })
    }
}

impl Prepared {
    fn is_new(&self) -> bool {
        let fits = self.draft.data.len() <= MAX_DATA_BYTES;
        fits && matches!(self.known, None | Some(Known::Open { .. }))
    }
}

fn message_id(tenant: &TenantId, id: &EventId) -> String {
    format!("{tenant}:{id}")
}

fn record(tenant: &TenantId, event: &Prepared, origin: &Origin) -> Result<NewRecord, PublishError> {
    let event_type = &event.draft.event_type;
    let subject = Subject::new(Message::subject(tenant, event_type))
        .map_err(|error| PublishError::Unavailable(Box::new(error)))?;
    let message = Message {
        v: Message::VERSION,
        tenant: tenant.clone(),
        id: event.id.clone(),
        event_type: event_type.clone(),
        data: event.draft.data.to_vec(),
        published_at: origin.at,
        actor: origin.actor.clone(),
        request_id: origin.request_id.clone(),
        correlation_id: origin.correlation_id.clone(),
        causation_id: origin.causation_id.clone(),
        traceparent: origin.traceparent.clone(),
        only_for: event.draft.only_for.clone(),
    };
    let message_id = message_id(tenant, &event.id);
    Ok(NewRecord {
        subject,
        message_id,
        expect: None,
        payload: message.encode().into(),
    })
}
