//! Quotas: exactly as many as allowed, however many ask at once and wherever.

use reqwest::Method;
use serde_json::json;
use tests::for_each_engine;
use tests::http::Api;
use tests::service::{Engine, Tidings};

use crate::world::{get_after, text, until};

/// A tenant with quotas: its own calls, its key, and the administrator's address of it.
async fn limited(service: &Tidings, quotas: &serde_json::Value) -> anyhow::Result<(Api, String, String)> {
    let admin = service.admin()?;
    let body = json!({ "name": "Acme", "slug": "acme" });
    let made = admin.post("/v1/tenants", &body).await?.expect(201)?;
    let path = format!("/v1/tenants/{}", text(&made, "id")?);
    let change = json!({ "quotas": quotas });
    let changed = admin.call(Method::PATCH, &path, Some(&change), &[]).await?;
    anyhow::ensure!(changed.status == 204, "the quotas were not set");
    let key = text(&made, "api_key")?.to_owned();
    Ok((service.tenant(&key)?, key, path))
}

/// Registers so many users at once, by turns through each of the ways in; answers how many were registered.
async fn race(ways: &[Api], count: usize, round: &str) -> anyhow::Result<usize> {
    let tries = (0..count).map(|i| {
        let api = &ways[i % ways.len()];
        let user = json!({ "email": format!("{round}{i}@example.org"), "name": "U" });
        async move { api.post("/v1/users", &user).await }
    });
    let mut registered = 0;
    for reply in futures::future::try_join_all(tries).await? {
        match reply.status {
            201 => registered += 1,
            _ => assert_eq!(reply.problem(409)?, "limit_reached"),
        }
    }
    Ok(registered)
}

for_each_engine! {
    /// Of many at once exactly the quota's number is made; a removal makes room for one; more may come with a higher
    /// quota; the tenant sees what it uses.
    async fn a_quota_is_exact(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, _, path) = limited(&service, &json!({ "users": 5, "endpoints": 1 })).await?;
        let ways = [api.clone()];
        assert_eq!(race(&ways, 20, "a").await?, 5);
        let refused = api.post("/v1/users", &json!({ "email": "x@example.org", "name": "X" })).await?.expect(409)?;
        assert!(text(&refused, "detail")?.contains("quota users is 5"), "{refused}");

        let own = until(&api, "/v1/tenant", |body| body["usage"]["users"] == 5).await?;
        assert_eq!((&own["usage"]["api_keys"], &own["usage"]["endpoints"]), (&json!(1), &json!(0)));
        let list = until(&api, "/v1/users", |body| body["data"].as_array().is_some_and(|rows| rows.len() == 5)).await?;
        let user = format!("/v1/users/{}", text(&list["data"][0], "id")?);
        let removed = api.call(Method::DELETE, &user, None, &[]).await?;
        assert_eq!(removed.status, 204);
        assert_eq!(race(&ways, 4, "b").await?, 1);

        let more = json!({ "quotas": { "users": 7 } });
        let changed = service.admin()?.call(Method::PATCH, &path, Some(&more), &[]).await?;
        assert_eq!(changed.status, 204);
        assert_eq!(race(&ways, 6, "c").await?, 2);
        assert_eq!(get_after(&api, "/v1/tenant", &changed).await?.expect(200)?["quotas"]["users"], 7);

        let endpoint = json!({ "url": "https://example.org/", "event_types": ["*"] });
        api.post("/v1/endpoints", &endpoint).await?.expect(201)?;
        assert_eq!(api.post("/v1/endpoints", &endpoint).await?.problem(409)?, "limit_reached");
        Ok(())
    }
}

/// Two processes on one log together make exactly the quota's number.
#[tokio::test]
async fn a_quota_is_exact_between_processes() -> anyhow::Result<()> {
    let service = Tidings::start(Engine::Cluster).await?;
    let beside = service.beside().await?;
    let (api, key, _) = limited(&service, &json!({ "users": 9 })).await?;
    let ways = [api.clone(), beside.tenant(&key)?];
    assert_eq!(race(&ways, 40, "a").await?, 9);
    until(&api, "/v1/tenant", |body| body["usage"]["users"] == 9).await?;
    Ok(())
}
