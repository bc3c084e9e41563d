//! Whether the memory of a replay depends on the size of the log.

use super::place;
use super::replay::Request;
use crate::bench::Plan;
use crate::bench::report::{Bar, Report};

pub(super) const NAME: &str = "memory";

/// What the process that replays may have at most, in MiB.
const BAR: f64 = 300.0;

/// Measures replays of audit and of all projections on logs of different sizes.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let sizes: &[u64] = if plan.quick {
        &[20_000, 100_000]
    } else {
        &[100_000, 5_000_000]
    };
    let server = place::postgres().await?;
    for events in sizes {
        eprintln!("{NAME}: a log of {events} events");
        let (nats, _) = place::on_nats(*events).await?;
        for (what, projections) in [("audit", &["audit"][..]), ("all projections", &[])] {
            let name = format!("memory_{}_{events}", projections.len());
            let database = place::database(&server, &name).await?;
            let replayed = Request::new(place::PREFIX, projections)?
                .on_nats(&nats.url())
                .into_database(&database.projector_url)
                .run()
                .await?;
            let row = format!("{NAME} of a replay of {what}, {events} events");
            report.value(&row, replayed.peak, "MiB", Some(Bar::AtMost(BAR)));
            server.drop_database(&name).await?;
        }
    }
    Ok(())
}
