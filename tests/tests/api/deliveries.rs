//! `/v1/deliveries` and `/v1/dead-letters`, with a real receiver.

use reqwest::Method;
use serde_json::{Value, json};
use tests::receiver::{Answer, Receiver};
use tests::service::Tidings;
use tests::{for_each_engine, sample};

use crate::world::{PATIENCE, tenant, text, until};

fn rows(body: &Value) -> usize {
    body["data"].as_array().map_or(0, Vec::len)
}

for_each_engine! {
    /// Real events arrive signed; each delivery and its attempts can be looked up, and sent once more.
    async fn real_events_arrive_and_can_be_sent_again(engine: Engine) {
        let receiver = Receiver::start().await?;
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let new = json!({ "url": receiver.url("/hook"), "event_types": ["github.*"] });
        let endpoint = api.post("/v1/endpoints", &new).await?.expect(201)?;
        let sample: Vec<_> = sample::github_events()?.into_iter().take(20).collect();
        let events: Vec<_> = sample.iter().map(|(kind, data)| json!({ "type": kind, "data": data })).collect();
        api.post("/v1/events/bulk", &json!({ "events": events })).await?.expect(202)?;
        let other = api.post("/v1/events", &json!({ "type": "other.kind", "data": 1 })).await?.expect(202)?;

        let received = receiver.wait_for(sample.len(), PATIENCE).await?;
        for webhook in &received {
            webhook.verify(text(&endpoint, "secret")?)?;
            let body = webhook.json()?;
            let sent = sample.iter().any(|(kind, data)| body["type"] == kind.as_str() && body["data"] == *data);
            assert!(sent, "{body} was never published");
        }
        let list = until(&api, "/v1/deliveries?status=delivered&limit=200", |body| rows(body) == sample.len()).await?;
        let stats = until(&api, "/v1/stats", |body| body["events_by_status"]["delivered"] == sample.len()).await?;
        assert_eq!(stats["events_by_status"]["pending"], 0);
        assert_eq!(rows(&api.get(&format!("/v1/deliveries?event={}", text(&other, "id")?)).await?.expect(200)?), 0);

        let delivery = &list["data"][0];
        let path = format!("/v1/deliveries/{}", text(delivery, "id")?);
        assert_eq!(api.get(&path).await?.expect(200)?, *delivery);
        let attempts = api.get(&format!("{path}/attempts")).await?.expect(200)?;
        assert_eq!((rows(&attempts), &attempts["data"][0]["status"]), (1, &json!(200)));

        api.post(&format!("{path}/resend"), &json!({})).await?.expect(202)?;
        let event = text(delivery, "event")?;
        let again = |all: &[tests::receiver::Received]| all.iter().filter(|one| one.webhook_id() == event).count() == 2;
        receiver.wait_until(PATIENCE, again).await?;
        until(&api, &path, |body| body["attempts"] == 2 && body["status"] == "delivered").await?;
        Ok(())
    }

    /// Out of attempts, a delivery waits as a dead letter until it is redriven or discarded.
    async fn dead_letters_are_listed_redriven_and_discarded(engine: Engine) {
        let receiver = Receiver::start().await?;
        receiver.script("/hook", [Answer::Status(500)]);
        let service = Tidings::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "20ms,20ms")]).await?;
        let api = tenant(&service, "acme").await?;
        let new = json!({ "url": receiver.url("/hook"), "event_types": ["*"], "breaker": false });
        let endpoint = text(&api.post("/v1/endpoints", &new).await?.expect(201)?, "id")?.to_owned();
        for number in 0..3 {
            api.post("/v1/events", &json!({ "type": "invoice.paid", "data": number })).await?.expect(202)?;
        }
        let dead = until(&api, &format!("/v1/dead-letters?endpoint={endpoint}"), |body| rows(body) == 3).await?;
        assert_eq!(dead["data"][0]["attempts"], 3);
        let ids: Vec<_> = (0..3).map(|i| dead["data"][i]["id"].clone()).collect();

        let other = tenant(&service, "other").await?;
        let foreign = other.post("/v1/dead-letters/redrive", &json!({ "ids": [ids[0]] })).await?.expect(202)?;
        assert_eq!((&foreign["requests"], &foreign["unknown"]), (&json!([]), &json!([ids[0]])));

        let unknown = "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let asked = api.post("/v1/dead-letters/discard", &json!({ "ids": [ids[0], unknown] })).await?.expect(202)?;
        assert_eq!((&asked["unknown"], &asked["requests"][0]["count"]), (&json!([unknown]), &json!(1)));
        until(&api, "/v1/dead-letters", |body| rows(body) == 2).await?;

        receiver.script("/hook", [Answer::Status(200)]);
        api.post("/v1/dead-letters/redrive", &json!({ "ids": [ids[1]] })).await?.expect(202)?;
        let path = format!("/v1/deliveries/{}", ids[1].as_str().unwrap_or_default());
        until(&api, &path, |body| body["status"] == "delivered").await?;
        let all = api.post("/v1/dead-letters/redrive", &json!({ "all": true })).await?.expect(202)?;
        assert_eq!(all["requests"][0]["endpoint"], endpoint);
        until(&api, "/v1/deliveries?status=delivered", |body| rows(body) == 2).await?;
        until(&api, "/v1/dead-letters", |body| rows(body) == 0).await?;

        receiver.script("/hook", [Answer::Status(500)]);
        api.post("/v1/events", &json!({ "type": "invoice.paid", "data": 4 })).await?.expect(202)?;
        until(&api, "/v1/dead-letters", |body| rows(body) == 1).await?;
        let removed = api.call(Method::DELETE, &format!("/v1/endpoints/{endpoint}"), None, &[]).await?;
        assert_eq!(removed.status, 204);
        let all = api.post("/v1/dead-letters/redrive", &json!({ "all": true })).await?.expect(202)?;
        assert_eq!(all["requests"], json!([]), "a removed endpoint cannot be sent anything");
        let named = api.post("/v1/dead-letters/redrive", &json!({ "endpoint": endpoint })).await?;
        assert_eq!(named.problem(404)?, "not_found");
        api.post("/v1/dead-letters/discard", &json!({ "all": true })).await?.expect(202)?;
        until(&api, "/v1/dead-letters", |body| rows(body) == 0).await?;

        for body in [json!({}), json!({ "all": false }), json!({ "ids": [], "all": true }), json!({ "ids": [] })] {
            assert_eq!(api.post("/v1/dead-letters/redrive", &body).await?.problem(422)?, "invalid_body");
        }
        Ok(())
    }
}
