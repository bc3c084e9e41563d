//! The suite `delivery`: what a webhook costs beside the bare HTTP it consists of, how soon it arrives, whom a bad
//! receiver holds up, what waiting deliveries cost, and whether any is lost under kills.
//!
//! The service is the release binary with the roles `gateway` and `delivery`; receivers ([`target`]) are a thread of
//! this program. A delivery counts as made when its attempt is in the delivery log.

mod bare;
mod kills;
mod latency;
mod neighbours;
mod ours;
mod place;
mod target;
mod waiting;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::Plan;
use super::report::Report;

/// Measures the suite; see [`super::SUITES`].
pub(super) fn suite<'a>(plan: &'a Plan, report: &'a mut Report) -> LocalBoxFuture<'a, anyhow::Result<()>> {
    async move {
        super::commands::build_service().await?;
        if ours::ROWS.iter().any(|row| plan.wants(row)) {
            ours::measure(plan, report).await?;
        }
        latency::measure(plan, report).await?;
        if plan.wants(neighbours::NAME) {
            neighbours::measure(plan, report).await?;
        }
        waiting::measure(plan, report).await?;
        if plan.wants(kills::NAME) {
            kills::measure(plan, report).await?;
        }
        Ok(())
    }
    .boxed_local()
}
