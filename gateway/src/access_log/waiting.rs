//! What is still to be written, bounded: per tenant, and for all together.

use std::collections::HashMap;
use std::time::Duration;

use domain::access_log::{AccessEvent, Count};
use domain::{TenantId, Timestamp};
use tokio::time::Instant;

/// The most events of one tenant in one round; more are counted.
pub(super) const OF_TENANT: usize = 100;
/// The most events of all tenants.
const OF_ALL: usize = 20_000;
/// The most tenants of whom something waits.
const TENANTS: usize = 10_000;
/// How often a tenant is told how many of its requests were too many.
const LIMITED: Duration = Duration::from_mins(1);

/// What waits, by tenant.
#[derive(Default)]
pub(super) struct Waiting {
    tenants: HashMap<TenantId, Queue>,
    events: usize,
}

#[derive(Default)]
struct Queue {
    events: Vec<AccessEvent>,
    dropped: Option<Count>,
    limited: Option<Count>,
    /// Before when the requests limited are not told again.
    limited_next: Option<Instant>,
}

impl Waiting {
    /// Takes an event in; answers whether it is kept as it is, and not only counted.
    pub(super) fn add(&mut self, tenant: &TenantId, event: AccessEvent, at: Timestamp) -> bool {
        let full = self.events >= OF_ALL;
        let Some(queue) = self.queue(tenant) else {
            return false;
        };
        if full || queue.events.len() >= OF_TENANT {
            count(&mut queue.dropped, at);
            return false;
        }
        queue.events.push(event);
        self.events += 1;
        true
    }

    /// Counts a request that was one too many.
    pub(super) fn limited(&mut self, tenant: &TenantId, at: Timestamp) {
        if let Some(queue) = self.queue(tenant) {
            count(&mut queue.limited, at);
        }
    }

    fn queue(&mut self, tenant: &TenantId) -> Option<&mut Queue> {
        if self.tenants.len() >= TENANTS && !self.tenants.contains_key(tenant) {
            return None;
        }
        Some(self.tenants.entry(tenant.clone()).or_default())
    }

    /// Takes out what is to be written now, but for tenants of whom something is still under way; at the `last` call,
    /// everything.
    pub(super) fn take(&mut self, busy: &[TenantId], last: bool) -> Vec<(TenantId, Vec<AccessEvent>)> {
        let now = Instant::now();
        let mut ready = Vec::new();
        for (tenant, queue) in &mut self.tenants {
            if busy.contains(tenant) {
                continue;
            }
            let mut events = std::mem::take(&mut queue.events);
            self.events -= events.len();
            events.extend(queue.dropped.take().map(AccessEvent::Dropped));
            if last || queue.limited_next.is_none_or(|next| now >= next) {
                let limited = queue.limited.take();
                queue.limited_next = limited.map(|_| now + LIMITED);
                events.extend(limited.map(AccessEvent::Limited));
            }
            if !events.is_empty() {
                ready.push((tenant.clone(), events));
            }
        }
        self.tenants.retain(|_, queue| {
            !queue.events.is_empty() || queue.dropped.is_some() || queue.limited_next.is_some()
        });
        ready
    }
}

fn count(counted: &mut Option<Count>, at: Timestamp) {
    match counted {
        Some(known) => {
            known.count += 1;
            known.until = at;
        }
        None => {
            *counted = Some(Count {
                count: 1,
                since: at,
                until: at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::new(ulid::Ulid(number))
    }

    fn event() -> AccessEvent {
        AccessEvent::Dropped(Count {
            count: 0,
            since: at(0),
            until: at(0),
        })
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_flood_is_kept_up_to_its_bound_and_counted_beyond() {
        let mut waiting = Waiting::default();
        let bound = i64::try_from(OF_TENANT).unwrap();
        for number in 0..bound + 7 {
            let kept = waiting.add(&tenant(1), event(), at(number));
            assert_eq!(kept, number < bound);
        }
        assert!(
            waiting.add(&tenant(2), event(), at(0)),
            "one tenant's flood is no other's"
        );
        let taken: HashMap<_, _> = waiting.take(&[tenant(2)], false).into_iter().collect();
        let flood = &taken[&tenant(1)];
        assert_eq!((taken.len(), flood.len()), (1, OF_TENANT + 1));
        let counted = AccessEvent::Dropped(Count {
            count: 7,
            since: at(bound),
            until: at(bound + 6),
        });
        assert_eq!(flood.last(), Some(&counted));
        assert_eq!(waiting.take(&[], false).len(), 1, "the other tenant's was left");
        assert_eq!(
            (
                waiting.take(&[], false).len(),
                waiting.events,
                waiting.tenants.len()
            ),
            (0, 0, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_are_told_once_a_minute() {
        let mut waiting = Waiting::default();
        waiting.limited(&tenant(1), at(0));
        assert_eq!(waiting.take(&[], false).len(), 1, "the first is told at once");
        waiting.limited(&tenant(1), at(1));
        waiting.limited(&tenant(1), at(2));
        assert_eq!(waiting.take(&[], false).len(), 0);
        tokio::time::advance(LIMITED).await;
        let told = waiting.take(&[], false);
        let limited = AccessEvent::Limited(Count {
            count: 2,
            since: at(1),
            until: at(2),
        });
        assert_eq!(told[0].1, [limited]);
        waiting.limited(&tenant(1), at(3));
        assert_eq!(waiting.take(&[], true).len(), 1, "the last call leaves nothing");
    }

    #[test]
    fn memory_is_bounded_over_all_tenants() {
        let mut waiting = Waiting::default();
        for number in 0..TENANTS as u128 + 5 {
            waiting.limited(&tenant(number), at(0));
        }
        assert_eq!(waiting.tenants.len(), TENANTS);
        let mut waiting = Waiting::default();
        for number in 0..OF_ALL as u128 / 2 {
            for _ in 0..3 {
                waiting.add(&tenant(number % 1_000), event(), at(0));
            }
        }
        assert_eq!(waiting.events, OF_ALL);
    }
}
