//! Two commands that happen together or not at all: both commits, with all their claims, are one append.

use std::time::Instant;

use broker::Appended;
use cqrs_es::event_sink::EventSink;
use domain::{Meta, Root, TenantId};

use crate::dispatcher::{failure, pause, receipt};
use crate::error::CommitError;
use crate::{Call, Context, Dispatcher, Either, Error, LoadError, Receipt, TenantStore, metrics};

/// A command for one of the two.
#[derive(Debug, Clone)]
pub struct Order<'a, A: Root> {
    /// Which aggregate.
    pub id: &'a str,
    /// What is asked of it.
    pub command: A::Command,
    /// Where it comes from; the command ids of two orders differ.
    pub meta: Call,
}

/// What an aggregate decided: its state after that, and the events, of which there may be none.
struct Decided<A: Root> {
    context: Context<A>,
    events: Vec<A::Event>,
}

impl Dispatcher {
    /// Lets two aggregates of a tenant decide and appends what they decided as one: there is never one commit
    /// without the other. Where one of them changes nothing, the other's commit stands alone.
    ///
    /// Everything else is as for [`Dispatcher::execute`]. The two must be different aggregates, and must not claim
    /// the same value.
    pub async fn execute_together<A: Root, B: Root>(
        &self,
        tenant: &TenantId,
        first: Order<'_, A>,
        second: Order<'_, B>,
    ) -> Result<(Receipt, Receipt), Error<Either<A::Error, B::Error>>> {
        let started = Instant::now();
        let result = self.decide_together(tenant, first, second).await;
        let outcome = match &result {
            Ok(_) => "done",
            Err(Error::Rejected(_)) => "rejected",
            Err(Error::Taken { .. }) => "taken",
            Err(Error::Contended) => "contended",
            Err(Error::Busy) => "busy",
            Err(_) => "failed",
        };
        for aggregate in [A::TYPE, B::TYPE] {
            ::metrics::counter!(metrics::COMMANDS, "aggregate" => aggregate, "outcome" => outcome)
                .increment(1);
            ::metrics::histogram!(metrics::COMMAND_SECONDS, "aggregate" => aggregate)
                .record(started.elapsed());
        }
        result
    }

    async fn decide_together<A: Root, B: Root>(
        &self,
        tenant: &TenantId,
        first: Order<'_, A>,
        second: Order<'_, B>,
    ) -> Result<(Receipt, Receipt), Error<Either<A::Error, B::Error>>> {
        let store = self.store(tenant);
        let (one, other) = (store.subject::<A>(first.id)?, store.subject::<B>(second.id)?);
        let _turns = self.turns(one.as_str(), other.as_str()).await;
        for attempt in 1..=self.attempts {
            // What the cache remembers and what a replica knows is good for the first try only, and never for a refusal.
            let from_cache = attempt == 1;
            let decided = async {
                let (ours, one) = self.decide::<A>(&store, &first, from_cache).await?;
                let one = one.map_err(|error| Error::Rejected(Either::First(error)));
                let (theirs, other) = self.decide::<B>(&store, &second, from_cache).await?;
                let other = other.map_err(|error| Error::Rejected(Either::Second(error)));
                Ok::<_, LoadError>(((ours, theirs), (one, other)))
            };
            let (seen, decided) = decided.await?;
            // Asked after the states were read, so that what they have of these commands is found.
            if let Some(receipts) = self.happened(&store, &first, &second, seen).await? {
                return Ok(receipts);
            }
            let (
                Decided {
                    context: a,
                    events: ours,
                },
                Decided {
                    context: b,
                    events: theirs,
                },
            ) = match decided {
                (Ok(first), Ok(second)) => (first, second),
                _ if from_cache => continue,
                (Err(error), _) | (_, Err(error)) => return Err(error),
            };
            if from_cache && (ours.is_empty() || theirs.is_empty()) {
                continue;
            }
            let appended = append(
                &store,
                (a, &ours, &first.meta.meta),
                (b, &theirs, &second.meta.meta),
            )
            .await;
            match appended {
                Ok(receipts) => return Ok(receipts),
                Err(CommitError::Conflict) => {
                    for aggregate in [A::TYPE, B::TYPE] {
                        ::metrics::counter!(metrics::CONFLICTS, "aggregate" => aggregate).increment(1);
                    }
                    tracing::debug!(%one, %other, attempt, "one of two changed meanwhile; deciding again");
                    tokio::time::sleep(pause(attempt, &first.meta.meta.command_id)).await;
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Err(Error::Contended)
    }

    /// The receipts of two commands that are repeated, where they happened: as one append, so that one record tells
    /// of both. That one of them changed nothing leaves no record; its receipt is then its aggregate's last. `seen` is
    /// where the aggregates' states were read to.
    async fn happened<A: Root, B: Root>(
        &self,
        store: &TenantStore,
        first: &Order<'_, A>,
        second: &Order<'_, B>,
        seen: (u64, u64),
    ) -> Result<Option<(Receipt, Receipt)>, LoadError> {
        if !(first.meta.repeated || second.meta.repeated) {
            return Ok(None);
        }
        let ours = store
            .find::<A>(first.id, &first.meta.meta.command_id, seen.0)
            .await?;
        let theirs = store
            .find::<B>(second.id, &second.meta.meta.command_id, seen.1)
            .await?;
        if ours.is_none() && theirs.is_none() {
            return Ok(None);
        }
        let ours = match ours {
            Some(found) => found,
            None => receipt(&store.load::<A>(first.id).await?),
        };
        let theirs = match theirs {
            Some(found) => found,
            None => receipt(&store.load::<B>(second.id).await?),
        };
        Ok(Some((ours, theirs)))
    }

    /// What an aggregate decides, and the sequence that its state was read up to.
    async fn decide<A: Root>(
        &self,
        store: &TenantStore,
        order: &Order<'_, A>,
        from_cache: bool,
    ) -> Result<(u64, Result<Decided<A>, A::Error>), LoadError> {
        let subject = store.subject::<A>(order.id)?;
        let cached = self.cache.get::<A>(subject.as_str()).map(|(context, _)| context);
        let mut context = match cached {
            Some(context) if from_cache => context,
            _ if from_cache => store.load(order.id).await?,
            _ => store.load_latest(order.id).await?,
        };
        let (seen, sink) = (context.sequence, EventSink::default());
        let handled = context.aggregate.handle(order.command.clone(), &(), &sink).await;
        let decided = match handled {
            Ok(()) => Ok(Decided {
                context,
                events: sink.collect().await,
            }),
            Err(rejection) => Err(rejection),
        };
        Ok((seen, decided))
    }
}

/// Appends both commits, or the one there is.
async fn append<A: Root, B: Root>(
    store: &TenantStore,
    (a, ours, our_meta): (Context<A>, &[A::Event], &Meta),
    (b, theirs, their_meta): (Context<B>, &[B::Event], &Meta),
) -> Result<(Receipt, Receipt), CommitError> {
    let (a, b) = match (ours.is_empty(), theirs.is_empty()) {
        (true, true) => (a, b),
        (false, true) => (store.append(a, ours, our_meta).await?, b),
        (true, false) => (a, store.append(b, theirs, their_meta).await?),
        (false, false) => {
            let (first, mut records) = store.prepare(a, ours, our_meta).await?;
            let (second, more) = store.prepare(b, theirs, their_meta).await?;
            let count = records.len();
            records.extend(more);
            let appended = store.log.append(records).await?;
            let (before, after): (&[Appended], &[Appended]) =
                appended.split_at_checked(count).unwrap_or((&appended, &[]));
            (store.stored(first, before), store.stored(second, after))
        }
    };
    Ok((receipt(&a), receipt(&b)))
}
