//! How long the trail is kept.

use anyhow::ensure;
use broker::layout::Log;
use broker::{NewRecord, Subject};
use domain::{Actor, Commit, EventRecord, Meta, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::Tidings;

use crate::world::{entries, tenant, text};

/// Entries of 2020, written into the log of a service that has ended.
async fn old_entries(service: &Tidings, tenant: &str, count: usize) -> anyhow::Result<()> {
    let engine = service.engine().await?;
    for number in 0..count {
        let id = format!("usr_{number:0>26}");
        let commit = Commit {
            v: Commit::VERSION,
            tenant: tenant.parse()?,
            aggregate: "user".into(),
            id: id.clone(),
            first_version: 1,
            events: vec![EventRecord {
                event_type: "user.registered".into(),
                schema: 1,
                data: json!({ "email": format!("old{number}@example.org"), "name": "Old" }),
            }],
            meta: Meta {
                command_id: format!("old-{number}"),
                command: "RegisterUser".into(),
                actor: Actor::System("test".into()),
                request_id: None,
                origin: None,
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                at: Timestamp::from_millis(1_600_000_000_000),
            },
            prev: None,
        };
        let record = NewRecord {
            subject: Subject::new(Commit::subject(&commit.tenant, "user", &id))?,
            message_id: format!("{tenant}:old-{number}"),
            expect: Some(0),
            payload: commit.encode().into(),
        };
        engine.log(Log::Events(0)).append(vec![record]).await?;
    }
    engine.close().await;
    Ok(())
}

async fn count(api: &Api, after: &str) -> anyhow::Result<usize> {
    let headers = [("tidings-at-least", after)];
    let reply = api
        .call(Method::GET, "/v1/audit?action=user.registered", None, &headers)
        .await?;
    Ok(reply.expect(200)?["data"].as_array().map_or(0, Vec::len))
}

async fn keep(api: &Api, days: Value) -> anyhow::Result<String> {
    let change = json!({ "audit_retention_days": days });
    let reply = api
        .call(Method::PATCH, "/v1/settings", Some(&change), &[])
        .await?;
    ensure!(reply.status == 204, "{}", reply.status);
    Ok(reply.header("tidings-position").to_owned())
}

async fn hold(api: &Api, reason: Option<&str>) -> anyhow::Result<String> {
    let body = reason.map(|reason| json!({ "reason": reason }));
    let method = if reason.is_some() {
        Method::PUT
    } else {
        Method::DELETE
    };
    let reply = api
        .call(method, "/v1/audit/legal-hold", body.as_ref(), &[])
        .await?;
    ensure!(reply.status == 204, "{}", reply.status);
    Ok(reply.header("tidings-position").to_owned())
}

for_each_engine! {
    /// What is older than the retention is not shown from the moment it is set, in no form; a legal hold keeps it, and
    /// needs a permission of its own.
    async fn retention_hides_and_a_legal_hold_keeps(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let (id, api) = tenant(&service, "acme").await?;
        let key = api.key().unwrap_or_default().to_owned();
        let scopes = json!({ "name": "settings", "scopes": ["settings.*.tenant", "audit.read.tenant"] });
        let issued = api.post("/v1/api-keys", &scopes).await?.expect(201)?;
        service.terminate().await?;
        old_entries(&service, &id, 3).await?;
        service.restart().await?;
        let api = service.tenant(&key)?;
        let young = api.post("/v1/users", &json!({ "email": "young@example.org", "name": "Y" })).await?;
        assert_eq!(count(&api, young.header("tidings-position")).await?, 4);

        let clerk = service.tenant(text(&issued, "api_key")?)?;
        let put = clerk.call(Method::PUT, "/v1/audit/legal-hold", Some(&json!({ "reason": "x" })), &[]).await?;
        assert_eq!(put.problem(403)?, "forbidden");
        let at = hold(&api, Some("Case 7")).await?;
        assert_eq!(count(&api, &at).await?, 4);
        let at = keep(&clerk, json!(30)).await?;
        assert_eq!(count(&api, &at).await?, 4, "the hold keeps them");
        assert_eq!(clerk.call(Method::DELETE, "/v1/audit/legal-hold", None, &[]).await?.problem(403)?, "forbidden");
        assert_eq!(clerk.post("/v1/settings/restore", &json!({ "version": 0 })).await?.status, 204);
        keep(&clerk, json!(30)).await?;
        let shown = clerk.get("/v1/audit/legal-hold").await?.expect(200)?;
        assert_eq!(shown, json!({ "held": true, "reason": "Case 7" }));

        let at = hold(&api, None).await?;
        assert_eq!(count(&api, &at).await?, 1, "they are past their time");
        let lines = api.get("/v1/audit/export?format=jsonl&action=user.registered").await?;
        assert_eq!(String::from_utf8(lines.body.to_vec())?.lines().count(), 1);
        let told = entries(&api, "resource=legal_hold", 2).await?;
        assert_eq!((&told[1]["action"], &told[1]["changes"]), (&json!("legal_hold.placed"), &json!([{ "field": "reason", "from": null, "to": "Case 7" }])));
        assert_eq!((&told[0]["action"], &told[0]["changes"]), (&json!("legal_hold.released"), &json!([{ "field": "reason", "from": "Case 7", "to": null }])));
        for (days, status) in [(json!(29), 422), (json!(36_501), 422), (json!(0), 422), (json!(36_500), 204)] {
            let change = json!({ "audit_retention_days": days });
            let reply = api.call(Method::PATCH, "/v1/settings", Some(&change), &[]).await?;
            assert_eq!(reply.status, status, "{days}");
        }
        Ok(())
    }
}
