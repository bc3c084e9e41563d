//! A page of a recovery: deliveries put into the queue, and how far that is kept.

use std::time::{Duration, SystemTime};

use broker::Job;
use domain::recovery::RecoveryCommand;
use domain::{DeliveryFact, Timestamp};

use super::known::Running;
use super::place::{HEARTBEAT, Place};
use super::truth::Wanted;
use super::window::{Candidate, Window};
use super::{Hand, Recoveries, RecoveryError, Step};
use crate::endpoints::Endpoint;
use crate::facts::RECOVERY_COMPLETED;
use crate::work::{Work, new_record, token};

/// The most deliveries of a page.
const PAGE: usize = 200;
/// How far ahead of time deliveries at a rate are put into the queue: what is paused or cancelled goes on no longer.
const LEAD: Duration = Duration::from_secs(1);

/// What a page puts into the queue.
#[derive(Default)]
struct Plan {
    works: Vec<(Work, String, DeliveryFact, Option<SystemTime>)>,
    /// Dead letters that this replaces, by the ids they may have.
    letters: Vec<String>,
}

impl Recoveries {
    /// Does the next page, of this window or another.
    pub(super) async fn go_on(
        &self,
        running: &Running,
        hand: &mut Hand,
        endpoint: &Endpoint,
    ) -> Result<Step, RecoveryError> {
        let Some(place) = &mut hand.place else {
            return Ok(Step::On);
        };
        let window = match &mut hand.window {
            Some(window) => window,
            none => {
                let progress = place.progress();
                let window = self.window(running, endpoint, (progress.at, progress.to)).await?;
                none.insert(window)
            }
        };
        let (plan, due) = fill(running, place, window);
        let over = window.candidates.is_empty();
        let moved = !plan.works.is_empty() || over;
        self.put_into_queue(running, plan).await?;
        if over {
            let progress = place.progress_mut();
            progress.scanned += window.scanned - window.counted;
            progress.at = window.end;
        }
        if moved || place.is_silent() {
            place.save(&self.holder).await?;
        }
        if over && window.last {
            let progress = place.progress();
            self.publish(running, RECOVERY_COMPLETED, progress, None).await?;
            self.tell(running, RecoveryCommand::Complete(progress)).await?;
            hand.window = None;
            return Ok(Step::Rests(HEARTBEAT));
        }
        if over {
            hand.window = None;
        }
        self.tell_now_and_then(running, hand).await?;
        Ok(match due {
            Some(wait) => Step::Rests(wait.min(HEARTBEAT)),
            None => Step::On,
        })
    }

    /// Facts first, then jobs, then the dead letters that these replace.
    async fn put_into_queue(&self, running: &Running, plan: Plan) -> Result<(), RecoveryError> {
        if plan.works.is_empty() {
            return Ok(());
        }
        let (tenant, endpoint) = (&running.tenant, &running.plan.endpoint);
        let facts = plan.works.iter().map(|(work, _, fact, _)| {
            let record = work.fact(tenant, endpoint, fact.clone());
            new_record(&record, "")
        });
        self.attempts.append(facts.collect()).await?;
        let job = |(work, id, _, due): (Work, String, DeliveryFact, Option<SystemTime>)| -> (Job, _) {
            (work.job(&id, tenant, endpoint), due)
        };
        self.queue
            .enqueue(plan.works.into_iter().map(job).collect())
            .await?;
        for letter in plan.letters {
            self.dead_letters
                .discard(
                    &token(tenant.as_str()),
                    &token(endpoint.as_str()),
                    &token(&letter),
                )
                .await?;
        }
        Ok(())
    }
}

/// Takes from the window what fills a page, or what the rate allows for now; then also how long to wait for more. How far
/// the recovery is moves along.
fn fill(running: &Running, place: &mut Place, window: &mut Window) -> (Plan, Option<Duration>) {
    let mut plan = Plan::default();
    while plan.works.len() < PAGE {
        let Some(candidate) = window.candidates.front() else {
            break;
        };
        let mut due = None;
        if candidate.wanted != Wanted::Done
            && let Some(rate) = running.plan.rate
        {
            let now = Timestamp::from(SystemTime::now());
            let next = place.next_due().unwrap_or(now).max(now);
            let ahead = next.as_millis().saturating_sub(now.as_millis());
            let ahead = Duration::from_millis(u64::try_from(ahead).unwrap_or_default());
            if ahead > LEAD {
                return (plan, Some(ahead.saturating_sub(LEAD)));
            }
            due = Some(SystemTime::from(next));
            *place.next_due() = Some(next.saturating_add(spacing(rate.get(), place.progress().enqueued)));
        }
        let Some(candidate) = window.candidates.pop_front() else {
            break;
        };
        let progress = place.progress_mut();
        progress.scanned += candidate.scanned - window.counted;
        window.counted = candidate.scanned;
        progress.at = candidate.message.position.sequence;
        progress.matched += 1;
        progress.enqueued += 1;
        plan.add(running, candidate, due);
    }
    (plan, None)
}

/// How long after the n-th delivery the next is due: times are in milliseconds, and what does not divide evenly is spread.
fn spacing(rate: u32, nth: u64) -> Duration {
    let rate = u64::from(rate);
    let millis = |n: u64| n * 1_000 / rate;
    let nth = nth % rate;
    Duration::from_millis(millis(nth + 1) - millis(nth))
}

impl Plan {
    fn add(&mut self, running: &Running, candidate: Candidate, due: Option<SystemTime>) {
        let Wanted::Yes {
            new,
            given_up,
            missing,
        } = candidate.wanted
        else {
            return;
        };
        let delivery = candidate.delivery;
        let again = format!("{delivery}-{}", running.run);
        if given_up {
            // A dead letter goes by its delivery, or by the run that was asked for beside it.
            self.letters
                .extend([delivery.to_string(), format!("{delivery}-{}", candidate.last_run)]);
        }
        let (id, fact) = if new {
            // The matcher's own job of it, should that come at this moment, is the same.
            (delivery.to_string(), DeliveryFact::Created)
        } else {
            (again, DeliveryFact::Redriven)
        };
        let work = Work {
            delivery,
            message: candidate.message,
            run: running.run,
            attempt: 1,
            trigger: Some(running.trigger.clone()),
            last_error: None,
            recovers: missing,
            order: None,
        };
        self.works.push((work, id, fact, due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_spread_over_each_second() {
        for rate in [1, 3, 7, 1_000, 3_000, 10_000] {
            let second: Duration = (0..u64::from(rate)).map(|nth| spacing(rate, nth)).sum();
            assert_eq!(second, Duration::from_secs(1), "at a rate of {rate}");
        }
        assert_eq!(spacing(20, 5), Duration::from_millis(50));
    }
}
