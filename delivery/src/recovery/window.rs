//! A stretch of a tenant's messages, with what is to be done about each.

use std::collections::{HashMap, VecDeque};
use std::time::SystemTime;

use broker::{Filter, ReadError, Record};
use domain::{DeliveryId, Message, MessageRef, Position, Source, TenantId};

use super::known::Running;
use super::range::MARGIN;
use super::truth::{Known, Wanted};
use super::{Recoveries, RecoveryError};
use crate::endpoints::Endpoint;
use crate::health::in_full;
use crate::metrics;

/// Messages that are read at once.
const PAGE: usize = 500;
/// How many messages that the endpoint wants are in a window: each costs some hundred bytes, and each window a pass over
/// what the endpoint got since.
const WANTED: usize = 20_000;
/// With a rate a window is worked at for about so many seconds, so that what it knows stays young.
const SECONDS: usize = 60;
/// How many messages of the tenant are looked at for one window, whether or not the endpoint wants them.
const LOOKED_AT: u64 = 200_000;

/// A message to be delivered, or found delivered already.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) delivery: DeliveryId,
    pub(super) message: MessageRef,
    pub(super) wanted: Wanted,
    /// What is known of the delivery before the recovery.
    pub(super) last_run: u32,
    /// How many messages of the window were looked at up to this one.
    pub(super) scanned: u64,
}

/// What of a window is left.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) candidates: VecDeque<Candidate>,
    /// How many messages of the window are counted already.
    pub(super) counted: u64,
    /// How many messages it holds.
    pub(super) scanned: u64,
    /// Its last sequence.
    pub(super) end: u64,
    /// Nothing of the recovery's time comes after it.
    pub(super) last: bool,
}

/// A message of the recovery's time that the endpoint wants.
struct Found {
    delivery: DeliveryId,
    message: MessageRef,
    scanned: u64,
}

impl Recoveries {
    /// The stretch after a sequence.
    pub(super) async fn window(
        &self,
        running: &Running,
        endpoint: &Endpoint,
        (after, to): (u64, u64),
    ) -> Result<Window, RecoveryError> {
        let mut window = Window {
            end: after,
            ..Window::default()
        };
        let mut found = Vec::new();
        let mut since = None;
        let size = running.plan.rate.map_or(WANTED, |rate| {
            let rate = usize::try_from(rate.get()).unwrap_or(usize::MAX);
            WANTED.min(rate.saturating_mul(SECONDS))
        });
        let filter = messages_of(&running.tenant)?;
        while found.len() < size && window.scanned < LOOKED_AT && !window.last {
            let page = self.messages.read(window.end, Some(&filter), PAGE).await?;
            window.last = page.is_empty();
            for record in page {
                if record.sequence > to || is_beyond(&record, running) {
                    window.last = true;
                    break;
                }
                window.end = record.sequence;
                window.scanned += 1;
                if let Some(message) = self.wanted(running, endpoint, &record) {
                    since.get_or_insert(record.stored_at);
                    found.push(Found {
                        delivery: DeliveryId::derive(&running.tenant, &message.id, &running.plan.endpoint),
                        message,
                        scanned: window.scanned,
                    });
                }
            }
        }
        if window.last {
            window.end = to;
        }
        if let Some(since) = since {
            window.candidates = self.judged(running, since, found).await?;
        }
        Ok(window)
    }

    /// The message of a record, if it is one of the recovery's.
    fn wanted(&self, running: &Running, endpoint: &Endpoint, record: &Record) -> Option<MessageRef> {
        let message = match Message::decode(&record.payload) {
            Ok(message) => message,
            Err(error) => {
                metrics::unreadable("MESSAGES");
                let (sequence, error) = (record.sequence, in_full(&error));
                tracing::error!(sequence, %error, "A message cannot be read and is not recovered.");
                return None;
            }
        };
        let plan = &running.plan;
        let of_time = plan.since <= message.published_at && message.published_at < plan.until;
        let of_type = plan.event_types.is_empty()
            || plan
                .event_types
                .iter()
                .any(|filter| filter.matches(&message.event_type));
        let for_it = match &message.only_for {
            Some(only) => *only == plan.endpoint,
            None => endpoint.wants(&message),
        };
        (of_time && of_type && for_it).then_some(MessageRef {
            id: message.id,
            event_type: message.event_type,
            position: Position {
                source: Source::Messages,
                shard: self.shard,
                sequence: record.sequence,
            },
            published_at: None,
        })
    }

    /// What is to be done about each message; those about which nothing is are left out, and so is one that stands in the
    /// log twice, since its id was used again.
    async fn judged(
        &self,
        running: &Running,
        since: SystemTime,
        found: Vec<Found>,
    ) -> Result<VecDeque<Candidate>, RecoveryError> {
        let asked = found
            .iter()
            .map(|found| (found.delivery.clone(), Known::default()));
        let mut truth = self
            .truth(running, since, asked.collect::<HashMap<_, _>>())
            .await?;
        let candidate = |found: Found| {
            let known = truth.remove(&found.delivery)?;
            let wanted = known.wanted(running.plan.only);
            (wanted != Wanted::No).then_some(Candidate {
                delivery: found.delivery,
                message: found.message,
                wanted,
                last_run: known.run,
                scanned: found.scanned,
            })
        };
        Ok(found.into_iter().filter_map(candidate).collect())
    }
}

fn messages_of(tenant: &TenantId) -> Result<Filter, ReadError> {
    Filter::new(format!("msg.{tenant}.>")).map_err(|error| ReadError::Unavailable(Box::new(error)))
}

/// Whether everything from this record on was published after the recovery's time.
fn is_beyond(record: &Record, running: &Running) -> bool {
    record.stored_at > SystemTime::from(running.plan.until) + MARGIN
}
