//! Jobs of suspended tenants: given back to the queue as they are, to come again and see whether they may go on.
//!
//! Each comes back at a time of its own, spaced, so that however many wait they cost the queue little; the first are
//! back within a second or two, so that a reactivated tenant's deliveries go on at once and gather pace from there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::TenantId;

/// The shortest time a job is sent away for.
const FIRST: Duration = Duration::from_secs(1);
/// How far apart two of a tenant's jobs come back.
const SPACING: Duration = Duration::from_millis(10);
/// The longest time a job is sent away for: a backlog larger than fits comes back faster than spaced.
const LONGEST: Duration = Duration::from_mins(5);
/// Below this many tenants nobody looks for those that have nothing waiting any more.
const SWEEP_FROM: usize = 1_024;

/// When the next job of each suspended tenant shall come back.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<TenantId, Instant>>);

impl Held {
    /// How long a tenant's job is sent away for.
    pub(crate) fn wait(&self, tenant: &TenantId) -> Duration {
        let now = Instant::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= SWEEP_FROM {
            held.retain(|_, next| *next > now);
        }
        let next = held.get(tenant).map_or(now, |last| *last + SPACING);
        let next = if next > now + LONGEST {
            // The spaces are full: another round begins between them.
            now + FIRST
        } else {
            next.max(now + FIRST)
        };
        held.insert(tenant.clone(), next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn jobs_come_back_spaced_and_never_late() {
        let held = Held::default();
        let (tenant, other) = (TenantId::new(Ulid(1)), TenantId::new(Ulid(2)));
        let waits: Vec<_> = (0..100).map(|_| held.wait(&tenant)).collect();
        assert_eq!(waits[0], FIRST);
        assert!(waits[99] > FIRST + SPACING * 90, "{:?}", waits[99]);
        assert_eq!(held.wait(&other), FIRST);
        let all = LONGEST.as_millis() / SPACING.as_millis();
        assert!((0..2 * all).all(|_| held.wait(&tenant) <= LONGEST));
    }
}
