//! `/v1/stats/series`.

use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::Receiver;
use tests::service::Tidings;

use crate::world::{get_after, tenant, text, until};

fn sum(series: &Value, field: &str) -> u64 {
    let buckets = series["data"].as_array().into_iter().flatten();
    buckets.filter_map(|bucket| bucket[field].as_u64()).sum()
}

for_each_engine! {
    /// What was published is counted in hours and in days, arrives within a time that is told, and every bucket of the
    /// range is there.
    async fn the_course_of_figures_is_shown(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let receiver = Receiver::start().await?;
        let endpoint = json!({ "url": receiver.url("/hooks"), "event_types": ["*"] });
        let endpoint = api.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        let endpoint = text(&endpoint, "id")?;
        let user = api.post("/v1/users", &json!({ "email": "ada@example.org", "name": "Ada" })).await?;
        let mut last = None;
        for kind in ["ping", "ping", "pong"] {
            last = Some(api.post("/v1/events", &json!({ "type": kind, "data": {} })).await?);
        }
        let last = last.expect("three were published");

        let path = "/v1/stats/series?interval=hour&metric=events";
        let events = get_after(&api, path, &last).await?.expect(200)?;
        assert_eq!(events["data"].as_array().map(Vec::len), Some(24));
        assert_eq!(sum(&events, "events"), 3);
        let pings = get_after(&api, "/v1/stats/series?interval=day&metric=events&type=ping", &last).await?;
        let pings = pings.expect(200)?;
        assert_eq!((pings["data"].as_array().map(Vec::len), sum(&pings, "events")), (Some(30), 2));
        assert_eq!(pings["complete"], true);
        let users = get_after(&api, "/v1/stats/series?interval=day&metric=active_users", &user).await?;
        assert_eq!(sum(&users.expect(200)?, "active_users"), 1);

        let path = format!("/v1/stats/series?interval=day&metric=deliveries&endpoint={endpoint}");
        let delivered = until(&api, &path, |series| sum(series, "delivered") == 3).await?;
        assert_eq!((sum(&delivered, "deliveries"), sum(&delivered, "failures")), (3, 0));
        let latency = api.get("/v1/stats/series?interval=day&metric=latency").await?.expect(200)?;
        let today = latency["data"].as_array().and_then(|days| days.last()).expect("a day");
        assert_eq!(today["count"], 3);
        assert!(today["p50"].as_u64() <= today["max"].as_u64() && today["max"].is_u64(), "{today}");
        Ok(())
    }

    /// What is not kept, or too much, is refused with what can be asked for.
    async fn what_cannot_be_shown_is_refused(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        for (query, told) in [
            ("metric=events&interval=hour&since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:01Z", "744 hours"),
            ("metric=events&interval=day&since=2026-02-01T00:00:00Z&until=2026-02-01T00:00:00Z", "before"),
            ("metric=active_users&interval=day&type=ping", "whole tenant"),
            ("metric=events&interval=day&endpoint=ep_00000000000000000000000001", "deliveries"),
            ("metric=latency&interval=day&type=ping&endpoint=ep_00000000000000000000000001", "both"),
            ("metric=weather&interval=day", "metric"),
            ("metric=events", "interval"),
        ] {
            let reply = api.get(&format!("/v1/stats/series?{query}")).await?;
            assert_eq!(reply.problem(400)?, "invalid_query", "{query}");
            let detail = reply.json()?["detail"].to_string();
            assert!(detail.contains(told), "{query}: {detail}");
        }
        let month = "metric=events&interval=hour&since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00Z";
        let series = api.get(&format!("/v1/stats/series?{month}")).await?.expect(200)?;
        assert_eq!(series["data"].as_array().map(Vec::len), Some(744));
        Ok(())
    }
}
