//! What became of messages at an endpoint, asked of the delivery log.
//!
//! All facts of the endpoint since the first message in question are read and folded, and only those of the deliveries in
//! question kept: reading costs in proportion to what the endpoint got since, memory in proportion to the window.

use std::collections::HashMap;
use std::time::SystemTime;

use broker::{Filter, ReadError};
use domain::recovery::Only;
use domain::{DeliveryFact, DeliveryId, DeliveryRecord, Next};

use super::known::Running;
use super::range::{before, stored_before};
use super::{Recoveries, RecoveryError};
use crate::health::in_full;

/// Records of the delivery log that are read at once.
const PAGE: usize = 500;

/// What is known of one delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The greatest fact of runs before the recovery's, by [`DeliveryRecord::order`].
    order: Option<(u32, u32)>,
    stage: Stage,
    arrived: bool,
    /// The run of the last fact before the recovery's: what a dead letter of it may be named by.
    pub(super) run: u32,
    /// The recovery has begun its run.
    begun: bool,
    /// In the recovery's run, or a later one, it was tried.
    tried: bool,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// There is none.
    #[default]
    Absent,
    UnderWay,
    Arrived,
    GivenUp,
}

/// What a recovery makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: it does not want it.
    No,
    /// It has put it into the queue already, and it was tried.
    Done,
    /// It is to be put into the queue.
    Yes {
        /// There was no delivery of it before.
        new: bool,
        /// Its last run ended as a dead letter.
        given_up: bool,
        /// It never arrived.
        missing: bool,
    },
}

impl Known {
    fn take(&mut self, record: &DeliveryRecord, run: u32) {
        if record.run >= run {
            self.begun |= record.run == run;
            self.tried |= record.run > run || matches!(record.fact, DeliveryFact::Attempted { .. });
            return;
        }
        let stage = match &record.fact {
            DeliveryFact::Created | DeliveryFact::Redriven => Stage::UnderWay,
            DeliveryFact::Discarded => Stage::GivenUp,
            DeliveryFact::Attempted { next, .. } => match next {
                Next::Delivered => Stage::Arrived,
                Next::Again { .. } => Stage::UnderWay,
                Next::Dead => Stage::GivenUp,
            },
        };
        self.arrived |= stage == Stage::Arrived;
        if self.order.is_none_or(|order| record.order() >= order) {
            (self.order, self.stage, self.run) = (Some(record.order()), stage, record.run);
        }
    }

    /// What a recovery of this kind makes of it.
    pub(super) fn wanted(&self, only: Only) -> Wanted {
        if self.tried && self.begun {
            return Wanted::Done;
        }
        let wanted = match (only, self.stage) {
            // It was begun and not tried yet: whoever began it may have ended before the queue knew.
            _ if self.begun => true,
            (_, Stage::UnderWay) => false,
            (Only::All, _) => true,
            (Only::Missing, stage) => stage == Stage::Absent || (stage == Stage::GivenUp && !self.arrived),
            (Only::Failed, stage) => stage == Stage::GivenUp,
        };
        // A later run than the recovery's is somebody's who asked for the message meanwhile.
        if !wanted || self.tried {
            return Wanted::No;
        }
        Wanted::Yes {
            new: self.stage == Stage::Absent,
            given_up: self.stage == Stage::GivenUp,
            missing: !self.arrived,
        }
    }
}

impl Recoveries {
    /// What is known of these deliveries of the endpoint, of messages stored at this time or later.
    pub(super) async fn truth(
        &self,
        running: &Running,
        since: SystemTime,
        mut deliveries: HashMap<DeliveryId, Known>,
    ) -> Result<HashMap<DeliveryId, Known>, RecoveryError> {
        let subject = DeliveryRecord::subject(&running.tenant, &running.plan.endpoint);
        let filter = Filter::new(subject).map_err(|error| ReadError::Unavailable(Box::new(error)))?;
        let log = self.attempts.as_ref();
        let mut after = stored_before(log, before(since)).await?;
        loop {
            let page = log.read(after, Some(&filter), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(deliveries);
            };
            after = last.sequence;
            for record in &page {
                match DeliveryRecord::decode(&record.payload) {
                    Ok(fact) => {
                        if let Some(known) = deliveries.get_mut(&fact.delivery) {
                            known.take(&fact, running.run);
                        }
                    }
                    Err(error) => {
                        let (sequence, error) = (record.sequence, in_full(&error));
                        tracing::error!(sequence, %error, "A record of the delivery log cannot be read.");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{AttemptOutcome, EndpointId, EventId, MessageRef, Position, Source, TenantId, Timestamp};
    use ulid::Ulid;

    use super::*;

    const RUN: u32 = 100;

    fn record(run: u32, fact: DeliveryFact) -> DeliveryRecord {
        let (tenant, id, endpoint) = (
            TenantId::new(Ulid(7)),
            EventId::new(Ulid(8)),
            EndpointId::new(Ulid(9)),
        );
        DeliveryRecord {
            v: DeliveryRecord::VERSION,
            delivery: DeliveryId::derive(&tenant, &id, &endpoint),
            tenant,
            endpoint,
            message: MessageRef {
                id,
                event_type: "invoice.paid".parse().unwrap(),
                position: Position {
                    source: Source::Messages,
                    shard: 0,
                    sequence: 42,
                },
                published_at: None,
            },
            run,
            at: Timestamp::from_millis(1),
            fact,
            trigger: None,
            recovers: false,
        }
    }

    fn tried(next: Next) -> DeliveryFact {
        DeliveryFact::Attempted {
            attempt: 1,
            outcome: AttemptOutcome::default(),
            next,
        }
    }

    /// What recoveries of missing, failed, and all messages make of facts.
    fn wanted(facts: &[(u32, DeliveryFact)]) -> [Wanted; 3] {
        let mut known = Known::default();
        for (run, fact) in facts {
            known.take(&record(*run, fact.clone()), RUN);
        }
        [Only::Missing, Only::Failed, Only::All].map(|only| known.wanted(only))
    }

    fn yes(new: bool, given_up: bool, missing: bool) -> Wanted {
        Wanted::Yes {
            new,
            given_up,
            missing,
        }
    }

    #[test]
    fn what_is_wanted_follows_from_what_became_of_the_message() {
        use Wanted::{Done, No};
        let again = || {
            tried(Next::Again {
                due: Timestamp::from_millis(9),
            })
        };
        let new = yes(true, false, true);
        assert_eq!(wanted(&[]), [new, No, new]);
        assert_eq!(wanted(&[(1, DeliveryFact::Created)]), [No, No, No]);
        assert_eq!(wanted(&[(1, again())]), [No, No, No]);
        let dead = [(1, DeliveryFact::Created), (1, tried(Next::Dead))];
        let lost = yes(false, true, true);
        assert_eq!(wanted(&dead), [lost, lost, lost]);
        let discarded = [dead[1].clone(), (1, DeliveryFact::Discarded)];
        assert_eq!(wanted(&discarded), [lost, lost, lost]);
        let arrived = (1, tried(Next::Delivered));
        assert_eq!(
            wanted(std::slice::from_ref(&arrived)),
            [No, No, yes(false, false, false)]
        );
        // It arrived, was sent again, and died then.
        let resent = [arrived, (5, DeliveryFact::Redriven), (5, tried(Next::Dead))];
        let known_there = yes(false, true, false);
        assert_eq!(wanted(&resent), [No, known_there, known_there]);

        // The recovery's own run: begun and not tried, then tried.
        let begun = [dead[1].clone(), (RUN, DeliveryFact::Redriven)];
        assert_eq!(wanted(&begun), [lost, lost, lost]);
        let there = [begun[0].clone(), begun[1].clone(), (RUN, again())];
        assert_eq!(wanted(&there), [Done, Done, Done]);
        // Somebody redrove it after the recovery was asked for.
        let overtaken = [dead[1].clone(), (RUN + 1, DeliveryFact::Redriven)];
        assert_eq!(wanted(&overtaken), [No, No, No]);
        // Facts come in any order.
        let shuffled = [
            (5, tried(Next::Dead)),
            (1, tried(Next::Delivered)),
            (5, DeliveryFact::Redriven),
        ];
        assert_eq!(wanted(&shuffled), wanted(&resent));
    }
}
