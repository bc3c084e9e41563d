//! A job's order: whether it may be sent now, and what its end means for those behind it.

use std::time::SystemTime;

use broker::{Lease, Settlement};
use domain::Next;
use domain::endpoint::policy::OnFailure;

use super::Worker;
use super::attempt::AWAY_WAIT;
use super::prepare::Receiver;
use super::record::wait_within;
use crate::endpoints::Endpoint;
use crate::metrics;
use crate::ordering::{End, Order, OrderError, Turn, key_of, sleep};
use crate::schedule::Waits;
use crate::work::Work;

/// How a job may go on.
#[derive(Debug)]
pub(super) enum Go {
    /// It keeps no order.
    Unordered,
    /// It is the first of its key.
    First(Order, OnFailure),
    /// It becomes a dead letter behind one of its key.
    Parked(Order),
    /// It becomes a dead letter since its endpoint gets nothing, whether or not it is the first.
    Ending(Order, OnFailure),
}

impl Worker {
    /// How a job may go on; none where it may not now, and was given back.
    pub(super) async fn go(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        endpoint: Option<&Endpoint>,
    ) -> Option<Go> {
        let policy = endpoint.and_then(|endpoint| endpoint.settings.policy.ordering.as_ref());
        let (Some(policy), Some(order)) = (policy, work.order.clone()) else {
            return Some(Go::Unordered);
        };
        if endpoint.is_some_and(|endpoint| !endpoint.enabled) {
            return Some(Go::Ending(order, policy.on_failure));
        }
        let turn = self
            .ordering
            .turn(&to.tenant, &to.endpoint, &order, work.run)
            .await;
        let done = match turn {
            Ok(Turn::Now) => return Some(Go::First(order, policy.on_failure)),
            Ok(Turn::Passed) => return Some(Go::Unordered),
            Ok(Turn::Park) => return Some(Go::Parked(order)),
            Ok(Turn::Later) => self.lie_down(lease, work, to, &order).await,
            Ok(Turn::Ended(end)) => self.end_again(lease, work, to, &order, end).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            let wait = self.surroundings(Some(&error));
            self.later(lease, wait.max(AWAY_WAIT)).await;
        }
        None
    }

    /// Waits behind the one before.
    async fn lie_down(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        order: &Order,
    ) -> Result<(), OrderError> {
        metrics::out_of_turn();
        let job = &lease.job;
        self.ordering
            .lie_down(&to.tenant, &to.endpoint, order, &job.id)
            .await?;
        self.later(lease, sleep(work)).await;
        // Whoever ended the one before in between found nobody to wake.
        let turn = self
            .ordering
            .turn(&to.tenant, &to.endpoint, order, work.run)
            .await;
        if turn.is_ok_and(|turn| turn != Turn::Later) {
            // Should this fail, the job wakes by itself.
            self.queue.hasten(&job.tenant, &job.lane, &job.id).await.ok();
        }
        Ok(())
    }

    /// Ends the job of a delivery that has ended.
    async fn end_again(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        order: &Order,
        end: End,
    ) -> Result<(), OrderError> {
        let (key, number) = (&order.key, order.step.number);
        self.ordering.wake(&to.tenant, &to.endpoint, key, number).await?;
        let settlement = match end {
            End::Passed => Settlement::Done,
            End::Skipped | End::Blocks | End::Parks => Settlement::Dead {
                payload: work.encode(),
            },
        };
        self.settle(lease, settlement).await;
        Ok(())
    }

    /// Moves the order on after an attempt; `false` when the lease ended before that could be done. The job then comes
    /// back.
    pub(super) async fn move_on(
        &self,
        lease: &Lease,
        work: &Work,
        to: &Receiver,
        go: &Go,
        next: &Next,
    ) -> bool {
        let mut waits = Waits::new();
        while let Err(error) = self.try_to_move_on(work, to, go, next).await {
            self.surroundings(Some(&error));
            if !wait_within(lease, &mut waits).await {
                tracing::error!(job = %lease.job.id, %error, "An order could not be moved on; its job will come again.");
                return false;
            }
        }
        true
    }

    async fn try_to_move_on(
        &self,
        work: &Work,
        to: &Receiver,
        go: &Go,
        next: &Next,
    ) -> Result<(), OrderError> {
        let (tenant, endpoint) = (&to.tenant, &to.endpoint);
        let (order, end) = match (go, next) {
            (_, Next::Again { .. }) => return Ok(()),
            (Go::Parked(order), _) => {
                let (key, number) = (&order.key, order.step.number);
                return self.ordering.wake(tenant, endpoint, key, number).await;
            }
            (Go::Unordered, Next::Delivered) if work.run > 1 => {
                return self.arrived_unordered(work, to).await;
            }
            (Go::Unordered, _) => return Ok(()),
            (Go::First(order, _) | Go::Ending(order, _), Next::Delivered) => (order, End::Passed),
            (Go::First(order, OnFailure::Skip), Next::Dead) => (order, End::Skipped),
            // When those before it are passed over, so is this one.
            (Go::Ending(order, OnFailure::Skip), Next::Dead) => {
                return self.ordering.give_up(tenant, endpoint, order).await;
            }
            (Go::First(order, OnFailure::Block) | Go::Ending(order, OnFailure::Block), Next::Dead) => {
                (order, End::Blocks)
            }
            (Go::First(order, OnFailure::Park) | Go::Ending(order, OnFailure::Park), Next::Dead) => {
                (order, End::Parks)
            }
        };
        self.ordering.end(tenant, endpoint, order, work.run, end).await
    }

    /// One that was asked for again knows of no order, and may be the very one that holds others up.
    async fn arrived_unordered(&self, work: &Work, to: &Receiver) -> Result<(), OrderError> {
        let position = work.message.position;
        let endpoint = self.endpoints.get(position.shard, &to.tenant, &to.endpoint);
        let policy = endpoint.and_then(|endpoint| endpoint.settings.policy.ordering.clone());
        let Some(policy) = policy else {
            return Ok(());
        };
        // It was read a moment ago; should it be gone by now, nobody can tell its key.
        let message = self.message(work).await.ok();
        match message.and_then(|message| key_of(&policy.key, &message)) {
            Some(key) => {
                self.ordering
                    .arrived(&to.tenant, &to.endpoint, &key, position.sequence)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Parks a job behind a dead letter of its key.
    pub(super) async fn park(&self, lease: &Lease, work: &Work, to: &Receiver, go: &Go) {
        metrics::parked();
        let why = "an earlier message of its key is a dead letter".to_owned();
        let started = SystemTime::now();
        self.conclude(lease, work, to, super::attempt::untried(why, true, started), go)
            .await;
    }
}
