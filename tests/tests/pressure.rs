//! More than the service takes: it says so at once, and what it said yes to is in the log.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use broker::layout::Log;
use domain::Message;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::service::Tidings;

const CALLS: usize = 200;

fn events(call: usize) -> Value {
    let events = (0..20).map(|number| json!({ "type": "a.b", "data": format!("{call}/{number}") }));
    json!({ "events": events.collect::<Vec<_>>() })
}

for_each_engine! {
    /// Refused with 503 and Retry-After, and nothing of it stored; everything acknowledged is there, once.
    async fn pressure_is_answered_and_loses_nothing(engine: Engine) {
        let bound = [("TIDINGS_APPEND_QUEUE_RECORDS", "40")];
        let service = Tidings::start_with(engine, &bound).await?;
        let made = service.admin()?.post("/v1/tenants", &json!({ "name": "Acme", "slug": "acme" })).await?;
        let api = service.tenant(made.expect(201)?["api_key"].as_str().context("api_key")?)?;
        let calls = (0..CALLS).map(|call| {
            let api = &api;
            async move { api.post("/v1/events/bulk", &events(call)).await }
        });
        let replies = try_join_all(calls).await?;
        let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
        for (call, reply) in replies.iter().enumerate() {
            if reply.status == 202 {
                acknowledged.extend((0..20).map(|number| format!("\"{call}/{number}\"")));
            } else {
                assert_eq!(reply.problem(503)?, "overloaded");
                ensure!(!reply.header("retry-after").is_empty(), "no Retry-After");
                refused += 1;
            }
        }
        ensure!(refused > 0 && refused < CALLS, "{refused} of {CALLS} were refused");
        let metrics = service.anyone()?.get("/metrics").await?;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        for name in ["tidings_log_appends_refused_total", "tidings_log_waiting_records"] {
            ensure!(metrics.contains(name), "{name} is not measured");
        }
        // The pressure is gone: there is room again, also for more at once than the bound.
        let large = (0..100).map(|number| json!({ "type": "a.b", "data": format!("last/{number}") }));
        let large = json!({ "events": large.collect::<Vec<_>>() });
        api.post("/v1/events/bulk", &large).await?.expect(202)?;
        acknowledged.extend((0..100).map(|number| format!("\"last/{number}\"")));
        let mut service = service;
        service.terminate().await?;
        let mut stored = BTreeSet::new();
        for record in service.records(Log::Messages(0)).await? {
            let data = String::from_utf8(Message::decode(&record.payload)?.data)?;
            ensure!(stored.insert(data.clone()), "{data} is there twice");
        }
        assert_eq!(stored, acknowledged);
        Ok(())
    }
}
