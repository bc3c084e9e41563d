//! `/v1/endpoints`: secrets, tests, and what is refused.

use std::time::Duration;

use broker::layout::Bucket;
use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::http::Api;
use tests::receiver::{Received, Receiver};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text, until};

const SOON: Duration = Duration::from_secs(30);

/// Creates an endpoint; answers its path and its secret.
async fn create(api: &Api, url: &str, event_type: &str) -> anyhow::Result<(String, String)> {
    let new = json!({ "url": url, "event_types": [event_type] });
    let made = api.post("/v1/endpoints", &new).await?.expect(201)?;
    let path = format!("/v1/endpoints/{}", text(&made, "id")?);
    Ok((path, text(&made, "secret")?.to_owned()))
}

/// Publishes an event; answers the webhook it became.
async fn next_webhook(api: &Api, receiver: &Receiver) -> anyhow::Result<Received> {
    let published = api
        .post("/v1/events", &json!({ "type": "a.b", "data": {} }))
        .await?
        .expect(202)?;
    let id = text(&published, "id")?;
    let came = |all: &[Received]| all.iter().any(|webhook| webhook.webhook_id() == id);
    let all = receiver.wait_until(SOON, came).await?;
    Ok(all
        .into_iter()
        .rfind(|webhook| webhook.webhook_id() == id)
        .expect("it came"))
}

for_each_engine! {
    /// During the overlap each webhook verifies with either secret, by two libraries; afterwards with the new alone.
    async fn a_secret_is_rotated_with_an_overlap_and_erased_in_the_end(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let (api, receiver) = (tenant(&service, "acme").await?, Receiver::start().await?);
        let (path, first) = create(&api, &receiver.url("/hook"), "*").await?;
        let rotate = format!("{path}/rotate-secret");

        let rotated = api.call(Method::POST, &rotate, None, &[]).await?;
        let body = rotated.expect(200)?;
        let second = text(&body, "secret")?.to_owned();
        assert!(second.starts_with("whsec_") && second != first);
        let shown = get_after(&api, &path, &rotated).await?.expect(200)?;
        assert_eq!(shown["previous_secret_valid_until"], body["previous_valid_until"]);
        let webhook = next_webhook(&api, &receiver).await?;
        assert_eq!(webhook.header("webhook-signature").split(' ').count(), 2);
        for secret in [&first, &second] {
            webhook.verify(secret)?;
            webhook.verify_with_python(secret).await?;
        }

        // Rotating again ends the older one.
        let body = api.post(&rotate, &json!({ "overlap_hours": 168 })).await?.expect(200)?;
        let third = text(&body, "secret")?.to_owned();
        let webhook = next_webhook(&api, &receiver).await?;
        assert!(webhook.verify(&third).is_ok() && webhook.verify(&second).is_ok() && webhook.verify(&first).is_err());

        let body = api.post(&rotate, &json!({ "overlap_hours": 0 })).await?.expect(200)?;
        let fourth = text(&body, "secret")?.to_owned();
        let webhook = next_webhook(&api, &receiver).await?;
        assert_eq!(webhook.header("webhook-signature").split(' ').count(), 1);
        webhook.verify(&fourth)?;
        assert!(webhook.verify(&third).is_err());
        let refused = api.post(&rotate, &json!({ "overlap_hours": 169 })).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        assert_eq!(refused.json()?["errors"][0]["path"], "overlap_hours");

        assert_eq!(api.call(Method::DELETE, &path, None, &[]).await?.status, 204);
        assert_eq!(api.call(Method::POST, &rotate, None, &[]).await?.problem(404)?, "not_found");
        service.terminate().await?;
        let kept = service.kept(Bucket::EndpointSecrets).await?;
        assert!(kept.is_empty(), "{} secrets are left of a removed endpoint", kept.len());
        Ok(())
    }

    /// A test event reaches the endpoint tried alone, whatever that wants, and is an event like any other.
    async fn a_test_event_reaches_one_endpoint_alone(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, receiver) = (tenant(&service, "acme").await?, Receiver::start().await?);
        let (tried, secret) = create(&api, &receiver.url("/tried"), "other.*").await?;
        create(&api, &receiver.url("/all"), "*").await?;
        let test = format!("{tried}/test");
        let sent = api.call(Method::POST, &test, None, &[]).await?;
        let id = text(&sent.expect(202)?, "id")?.to_owned();
        let own = api.post(&test, &json!({ "type": "invoice.paid", "data": { "n": 1.50 } })).await?.expect(202)?;
        let path = format!("/v1/deliveries?event={}&status=delivered", text(&own, "id")?);
        until(&api, &path, |list| list["data"][0].is_object()).await?;
        let webhooks = receiver.wait_for(2, SOON).await?;
        for webhook in &webhooks {
            webhook.verify(&secret)?;
            assert_eq!(webhook.path, "/tried");
        }
        let first = webhooks.iter().find(|webhook| webhook.webhook_id() == id).expect("the test event");
        assert_eq!(first.json()?["type"], "endpoint.test");
        let shown = get_after(&api, &format!("/v1/events/{id}"), &sent).await?.expect(200)?;
        assert_eq!(shown["data"], json!({ "test": true }));
        // A real one still goes to those that want it, and only there.
        let webhook = next_webhook(&api, &receiver).await?;
        assert_eq!((webhook.path.as_str(), receiver.received().len()), ("/all", 3));

        let new = json!({ "name": "invoice.paid", "schema": { "required": ["amount"] } });
        api.post("/v1/event-types", &new).await?.expect(201)?;
        let refused = api.post(&test, &json!({ "type": "invoice.paid", "data": {} })).await?;
        assert_eq!(refused.problem(422)?, "schema_violation");
        assert_eq!(refused.json()?["errors"][0]["path"], "data.amount");
        assert_eq!(api.call(Method::POST, &format!("{tried}/disable"), None, &[]).await?.status, 204);
        assert_eq!(api.call(Method::POST, &test, None, &[]).await?.problem(409)?, "not_possible");
        Ok(())
    }

    /// Why an endpoint is disabled is shown, and bounded; a URL at which nobody can listen is refused.
    async fn reasons_are_shown_and_impossible_urls_refused(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let (path, _) = create(&api, "https://example.org/hook", "*").await?;
        let disable = format!("{path}/disable");
        let refused = api.post(&disable, &json!({ "reason": "x".repeat(201) })).await?;
        assert_eq!(refused.problem(422)?, "invalid_body");
        assert_eq!(refused.json()?["errors"][0]["path"], "reason");
        let disabled = api.post(&disable, &json!({ "reason": "The receiver moves." })).await?;
        let shown = get_after(&api, &path, &disabled).await?.expect(200)?;
        assert_eq!(text(&shown, "disabled_reason")?, "The receiver moves.");
        let enabled = api.call(Method::POST, &format!("{path}/enable"), None, &[]).await?;
        let shown = get_after(&api, &path, &enabled).await?.expect(200)?;
        assert!(shown.get("disabled_reason").is_none(), "{shown}");
        for url in ["https://example.org:0/", "https://a..b/", "https://-a.example.org/", "https://a!b.example.org/"] {
            for reply in [
                api.post("/v1/endpoints", &json!({ "url": url, "event_types": ["*"] })).await?,
                api.call(Method::PATCH, &path, Some(&json!({ "url": url })), &[]).await?,
            ] {
                assert_eq!(reply.problem(422)?, "invalid_body", "{url}");
                assert_eq!(reply.json()?["errors"][0]["path"], "url", "{url}");
            }
        }
        Ok(())
    }
}
