//! `/v1/tenants` and `/v1/tenant`: plans, quotas, suspension and termination, and what they do to a tenant's calls and
//! deliveries.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::receiver::Receiver;
use tests::service::Tidings;

use crate::world::{PATIENCE, get_after, text, until};

/// A tenant, the address the administrator has it under, and its id.
struct Subject {
    admin: Api,
    api: Api,
    path: String,
}

impl Subject {
    async fn new(service: &Tidings, slug: &str) -> anyhow::Result<Self> {
        let admin = service.admin()?;
        let body = json!({ "name": slug, "slug": slug });
        let made = admin.post("/v1/tenants", &body).await?.expect(201)?;
        Ok(Self {
            api: service.tenant(text(&made, "api_key")?)?,
            path: format!("/v1/tenants/{}", text(&made, "id")?),
            admin,
        })
    }

    async fn act(&self, what: &str, reason: Option<&str>) -> anyhow::Result<Reply> {
        let body = reason.map(|reason| json!({ "reason": reason }));
        let path = format!("{}/{what}", self.path);
        self.admin.call(Method::POST, &path, body.as_ref(), &[]).await
    }

    async fn change(&self, change: &Value) -> anyhow::Result<Reply> {
        self.admin
            .call(Method::PATCH, &self.path, Some(change), &[])
            .await
    }

    /// Each kind of change a tenant can ask for, which must be refused alike.
    async fn cannot_change(&self, code: &str) -> anyhow::Result<()> {
        let user = json!({ "email": "bob@example.org", "name": "Bob" });
        let endpoint = json!({ "url": "https://example.org/", "event_types": ["*"] });
        let event = json!({ "type": "a.b", "data": {} });
        for (path, body) in [
            ("/v1/users", user),
            ("/v1/endpoints", endpoint),
            ("/v1/events", event.clone()),
            ("/v1/events/bulk", json!({ "events": [event] })),
            ("/v1/dead-letters/redrive", json!({})),
        ] {
            let reply = self.api.post(path, &body).await?;
            assert_eq!(reply.problem(403)?, code, "{path}");
            assert!(text(&reply.json()?, "detail")?.contains("(unpaid)"), "{path}");
        }
        for path in [
            "/v1/users",
            "/v1/events",
            "/v1/audit",
            "/v1/stats",
            "/v1/audit/export?format=csv",
        ] {
            assert_eq!(self.api.get(path).await?.status, 200, "{path} can be read");
        }
        Ok(())
    }
}

for_each_engine! {
    /// What is named changes, what is not stays, null takes a plan or quota away; the tenant sees it too.
    async fn a_tenants_name_plan_and_quotas_are_changed(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let subject = Subject::new(&service, "acme").await?;
        let change = json!({ "name": "Acme 2", "plan": "team", "quotas": { "users": 3, "requests_per_second": 500 } });
        let changed = subject.change(&change).await?;
        assert_eq!(changed.status, 204);
        let shown = get_after(&subject.admin, &subject.path, &changed).await?.expect(200)?;
        assert_eq!((text(&shown, "name")?, text(&shown, "plan")?), ("Acme 2", "team"));
        let quotas = json!({ "users": 3, "endpoints": null, "api_keys": null, "teams": null, "requests_per_second": 500 });
        assert_eq!(shown["quotas"], quotas);
        let own = get_after(&subject.api, "/v1/tenant", &changed).await?.expect(200)?;
        assert_eq!((&own["quotas"], &own["status"], text(&own, "slug")?), (&quotas, &json!("active"), "acme"));

        let changed = subject.change(&json!({ "plan": null, "quotas": { "requests_per_second": null } })).await?;
        let shown = get_after(&subject.admin, &subject.path, &changed).await?.expect(200)?;
        assert_eq!((&shown["plan"], &shown["quotas"]["requests_per_second"]), (&Value::Null, &Value::Null));
        assert_eq!((&shown["quotas"]["users"], text(&shown, "name")?), (&json!(3), "Acme 2"));

        for (bad, path) in [
            (json!({}), "."),
            (json!({ "quotas": { "users": -1 } }), "quotas.users"),
            (json!({ "quotas": { "requests_per_second": 0 } }), "quotas.requests_per_second"),
            (json!({ "quotas": { "goats": 1 } }), "quotas.goats"),
            (json!({ "plan": "" }), "plan"),
        ] {
            let refused = subject.change(&bad).await?.expect(422)?;
            assert_eq!(refused["errors"][0]["path"], path, "{bad}: {refused}");
        }
        Ok(())
    }

    /// A suspended tenant is read, not changed; it goes on where it was after its reactivation.
    async fn a_suspended_tenant_changes_nothing_until_it_is_reactivated(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (subject, other) = (Subject::new(&service, "acme").await?, Subject::new(&service, "other").await?);
        let suspended = subject.act("suspend", Some("unpaid")).await?;
        assert_eq!(suspended.status, 204);
        subject.cannot_change("tenant_suspended").await?;
        let user = json!({ "email": "bob@example.org", "name": "Bob" });
        other.api.post("/v1/users", &user).await?.expect(201)?;
        let shown = get_after(&subject.api, "/v1/tenant", &suspended).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, text(&shown, "reason")?), ("suspended", "unpaid"));

        assert_eq!(subject.act("suspend", Some("unpaid")).await?.status, 204, "the same again changes nothing");
        assert_eq!(subject.act("suspend", Some("abuse")).await?.problem(409)?, "not_possible");
        assert_eq!(subject.act("suspend", None).await?.status, 415);
        let back = subject.act("reactivate", None).await?;
        assert_eq!(back.status, 204);
        subject.api.post("/v1/users", &user).await?.expect(201)?;
        let shown = get_after(&subject.admin, &subject.path, &back).await?.expect(200)?;
        assert_eq!((text(&shown, "status")?, &shown["reason"]), ("active", &Value::Null));
        Ok(())
    }

    /// A termination is final, gives the slug back, and leaves the tenant readable.
    async fn a_terminated_tenant_can_only_be_read(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let subject = Subject::new(&service, "acme").await?;
        assert_eq!(subject.act("terminate", Some("unpaid")).await?.status, 204);
        subject.cannot_change("tenant_terminated").await?;
        assert_eq!(subject.act("reactivate", None).await?.problem(409)?, "not_possible");
        assert_eq!(subject.change(&json!({ "name": "Again" })).await?.problem(409)?, "not_possible");
        let next = Subject::new(&service, "acme").await?;
        assert_ne!(next.path, subject.path);
        Ok(())
    }

    /// Deliveries of a suspended tenant wait without an attempt and go on by themselves; another tenant's are sent
    /// meanwhile. Those of a terminated tenant become dead letters that say why.
    async fn deliveries_wait_for_a_suspended_tenant_and_end_with_a_terminated_one(engine: Engine) {
        let service = Tidings::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "2s,2s,2s,2s,2s")]).await?;
        let receiver = Receiver::start().await?;
        let (subject, other) = (Subject::new(&service, "acme").await?, Subject::new(&service, "other").await?);
        for (who, hook) in [(&subject, "/acme"), (&other, "/other")] {
            let new = json!({ "url": receiver.url(hook), "event_types": ["*"] });
            who.api.post("/v1/endpoints", &new).await?.expect(201)?;
        }
        // The first try fails, so that a second is due in a while: before that the tenant is suspended.
        receiver.fail_first("/acme", 1);
        subject.api.post("/v1/events", &json!({ "type": "a.b", "data": 1 })).await?.expect(202)?;
        receiver.wait_for(1, PATIENCE).await?;
        subject.act("suspend", Some("unpaid")).await?;
        let held = "tidings_delivery_tenant_suspended_total";
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !service.anyone()?.get("/metrics").await?.body.windows(held.len()).any(|text| text == held.as_bytes()) {
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "no job of the tenant was held back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        other.api.post("/v1/events", &json!({ "type": "a.b", "data": 1 })).await?.expect(202)?;
        let came = receiver.wait_until(PATIENCE, |all| all.iter().any(|one| one.path == "/other")).await?;
        assert_eq!(came.iter().filter(|one| one.path == "/acme").count(), 1, "nothing is sent while suspended");

        subject.act("reactivate", None).await?;
        receiver.wait_until(PATIENCE, |all| all.iter().filter(|one| one.path == "/acme").count() == 2).await?;
        let delivered = until(&subject.api, "/v1/deliveries?status=delivered", |body| body["data"][0].is_object()).await?;
        let path = format!("/v1/deliveries/{}/attempts", text(&delivered["data"][0], "id")?);
        let attempts = subject.api.get(&path).await?.expect(200)?;
        assert_eq!(attempts["data"].as_array().map(Vec::len), Some(2), "waiting used no attempt up: {attempts}");

        receiver.fail_first("/acme", 1_000);
        subject.api.post("/v1/events", &json!({ "type": "a.c", "data": 2 })).await?.expect(202)?;
        receiver.wait_until(PATIENCE, |all| all.iter().filter(|one| one.path == "/acme").count() > 2).await?;
        subject.act("terminate", Some("unpaid")).await?;
        let dead = until(&subject.api, "/v1/dead-letters", |body| body["data"][0].is_object()).await?;
        let path = format!("/v1/deliveries/{}/attempts", text(&dead["data"][0], "id")?);
        let attempts = subject.api.get(&path).await?.expect(200)?.to_string();
        assert!(attempts.contains("the tenant was terminated"), "{attempts}");
        Ok(())
    }

    /// A tenant that may send five requests a second is told so at the latest with the sixth at once, whichever key
    /// it sends them with; other tenants are not held up.
    async fn a_tenants_requests_are_limited(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (subject, other) = (Subject::new(&service, "acme").await?, Subject::new(&service, "other").await?);
        assert_eq!(subject.change(&json!({ "quotas": { "requests_per_second": 5 } })).await?.status, 204);
        let burst = (0..60).map(|_| subject.api.get("/v1/users"));
        let replies = futures::future::try_join_all(burst).await?;
        let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
        assert!(!refused.is_empty(), "sixty requests at once were all answered");
        for reply in refused {
            assert_eq!(reply.problem(429)?, "rate_limited");
            assert_eq!(reply.header("ratelimit-policy"), "\"tenant\";q=5;w=1");
            assert_eq!(reply.header("retry-after"), "1");
        }
        assert_eq!(other.api.get("/v1/users").await?.status, 200);
        assert_eq!(subject.change(&json!({ "quotas": { "requests_per_second": null } })).await?.status, 204);
        assert_eq!(subject.api.get("/v1/users").await?.status, 200);
        Ok(())
    }
}
