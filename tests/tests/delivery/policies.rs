//! An endpoint's policy in the API: what is given is shown, what is secret is not, and what cannot be is refused.

use broker::layout::Bucket;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;

use crate::world::{World, get_after, patch};

/// Everything an endpoint can ask for, without secrets.
fn everything() -> Value {
    json!({
        "filter": { "all": [{ "path": "/amount", "at_least": 100 }, { "not": { "path": "/test", "equals": true } }] },
        "retry_schedule": ["5s", "5m"],
        "retry_jitter": 20,
        "timeout_ms": 5_000,
        "max_in_flight": 4,
        "rate_limit": { "per_second": 10, "burst": 50 },
        "breaker": { "failure_percent": 60, "minimum": 5, "window_seconds": 30, "open_seconds": 10 },
        "disable_after_hours": 72,
        "headers": [{ "name": "x-source", "value": "tidings", "secret": false }],
        "format": "cloudevents_structured",
        "method": "PUT",
        "authentication": null,
        "signature": "ed25519",
        "ordering": { "key": "/customer/id", "on_failure": "park" }
    })
}

fn nothing() -> Value {
    json!({
        "filter": null, "retry_schedule": null, "retry_jitter": null, "timeout_ms": null, "max_in_flight": null,
        "rate_limit": null, "breaker": null, "disable_after_hours": null, "headers": [], "format": "standard",
        "method": "POST", "authentication": null, "signature": "hmac", "ordering": null
    })
}

/// The policy in an endpoint's view.
fn policy_of(shown: &Value) -> Value {
    let names = everything();
    let names = names.as_object().expect("an object").keys();
    names.map(|name| (name.clone(), shown[name].clone())).collect()
}

for_each_engine! {
    /// Each part is shown as it was given, stays when a change does not name it, and goes back to the default by null;
    /// the audit trail tells each part that changed.
    async fn each_part_is_given_shown_changed_and_set_back(engine: Engine) {
        let world = World::start(engine).await?;
        let api = &world.api;
        let plain = world.endpoint("/plain", &json!({})).await?;
        let shown = get_after(api, &plain.path, &plain.created).await?;
        assert_eq!(policy_of(&shown), nothing());

        let full = world.endpoint("/full", &everything()).await?;
        let shown = get_after(api, &full.path, &full.created).await?;
        assert_eq!(policy_of(&shown), everything());

        let changed = patch(api, &full.path, &json!({ "timeout_ms": 700, "breaker": false })).await?;
        let shown = get_after(api, &full.path, &changed).await?;
        let mut expected = everything();
        (expected["timeout_ms"], expected["breaker"]) = (json!(700), json!(false));
        assert_eq!(policy_of(&shown), expected);
        let trail = format!("/v1/audit?action=endpoint.changed&resource=endpoint/{}", full.id);
        let trail = get_after(api, &trail, &changed).await?;
        let fields: Vec<_> = trail["data"][0]["changes"].as_array().expect("changes").iter().map(|change| &change["field"]).collect();
        assert_eq!(fields, ["breaker", "timeout_ms"]);

        let nulls: Value = everything().as_object().expect("an object").keys().map(|name| (name.clone(), Value::Null)).collect();
        let reset = patch(api, &full.path, &nulls).await?;
        assert_eq!(policy_of(&get_after(api, &full.path, &reset).await?), nothing());
        Ok(())
    }

    /// What is secret is kept sealed, never shown, neither in answers nor in the audit trail, and erased when it is
    /// replaced or its endpoint removed.
    async fn secrets_are_kept_sealed_never_shown_and_erased(engine: Engine) {
        const SECRETS: [&str; 3] = ["open-sesame-1", "open-sesame-2", "open-sesame-3"];
        let mut world = World::start(engine).await?;
        let secret = json!({
            "headers": [
                { "name": "X-Key", "value": SECRETS[0], "secret": true },
                { "name": "X-Plain", "value": "seen" }
            ],
            "authentication": { "type": "basic", "username": "ada", "password": SECRETS[1] }
        });
        let endpoint = world.endpoint("/hook", &secret).await?;
        let shown = get_after(&world.api, &endpoint.path, &endpoint.created).await?;
        let headers = json!([{ "name": "x-key", "secret": true }, { "name": "x-plain", "value": "seen", "secret": false }]);
        assert_eq!(shown["headers"], headers);
        assert_eq!(shown["authentication"], json!({ "type": "basic", "username": "ada" }));
        let bearer = json!({ "authentication": { "type": "bearer", "token": SECRETS[2] }, "headers": [] });
        let changed = patch(&world.api, &endpoint.path, &bearer).await?;
        let shown = get_after(&world.api, &endpoint.path, &changed).await?;
        assert_eq!(shown["authentication"], json!({ "type": "bearer" }));
        let trail = get_after(&world.api, "/v1/audit?limit=200", &changed).await?.to_string();
        assert!(trail.contains("endpoint.changed"), "{trail}");
        assert!(SECRETS.iter().all(|secret| !trail.contains(secret)), "{trail}");

        // The signing secret and the token are left.
        world.service.terminate().await?;
        let kept = world.service.kept(Bucket::EndpointSecrets).await?;
        assert_eq!(kept.len(), 2);
        for entry in &kept {
            let bytes = String::from_utf8_lossy(&entry.value).into_owned();
            assert!(SECRETS.iter().all(|secret| !bytes.contains(secret)));
        }
        world.service.restart().await?;
        let api = world.service.tenant(world.api.key().expect("a key"))?;
        assert_eq!(api.call(Method::DELETE, &endpoint.path, None, &[]).await?.status, 204);
        world.service.terminate().await?;
        assert_eq!(world.service.kept(Bucket::EndpointSecrets).await?.len(), 0);
        Ok(())
    }

    /// Every refusal names its place, and keeps nothing.
    async fn what_cannot_be_is_refused_with_its_place(engine: Engine) {
        let mut world = World::start(engine).await?;
        let there = world.endpoint("/hook", &json!({})).await?;
        let header = |name: &str| json!([{ "name": name, "value": "x", "secret": true }]);
        for (policy, place) in [
            (json!({ "filter": { "all": [{ "path": "/a", "equals": 1 }, { "path": "a", "equals": 1 }] } }), "filter.all[1].path"),
            (json!({ "filter": { "not": { "path": "/a", "matches": ".*" } } }), "filter.not"),
            (json!({ "filter": { "path": "/a" } }), "filter"),
            (json!({ "retry_schedule": ["5s", "soon"] }), "retry_schedule[1]"),
            (json!({ "retry_jitter": 51 }), "retry_jitter"),
            (json!({ "timeout_ms": 99 }), "timeout_ms"),
            (json!({ "max_in_flight": 0 }), "max_in_flight"),
            (json!({ "rate_limit": { "per_second": 0 } }), "rate_limit.per_second"),
            (json!({ "rate_limit": [10, 20] }), "rate_limit"),
            (json!({ "breaker": { "minimum": 0 } }), "breaker.minimum"),
            (json!({ "disable_after_hours": 721 }), "disable_after_hours"),
            (json!({ "headers": header("Host") }), "headers[0].name"),
            (json!({ "headers": header("webhook-signature") }), "headers[0].name"),
            (json!({ "headers": header("transfer-encoding") }), "headers[0].name"),
            (json!({ "headers": [{ "name": "x-a", "value": "a\r\nb: c" }] }), "headers[0].value"),
            (json!({ "format": "xml" }), "format"),
            (json!({ "method": "GET" }), "method"),
            (json!({ "authentication": { "type": "basic", "username": "a:b", "password": "c" } }), "authentication"),
            (json!({ "headers": header("authorization"), "authentication": { "type": "bearer", "token": "t" } }), "headers[0].name"),
            (json!({ "signature": "rsa" }), "signature"),
            (json!({ "ordering": { "key": "/a~" } }), "ordering.key"),
            (json!({ "colour": "red" }), "colour"),
        ] {
            let mut new = policy.clone();
            (new["url"], new["event_types"]) = (json!(world.receiver.url("/hook")), json!(["*"]));
            for reply in [
                world.api.post("/v1/endpoints", &new).await?,
                world.api.call(Method::PATCH, &there.path, Some(&policy), &[]).await?,
            ] {
                assert_eq!(reply.problem(422)?, "invalid_body", "{policy}");
                assert_eq!(reply.json()?["errors"][0]["path"], place, "{policy}: {}", reply.json()?);
            }
        }
        let refused = json!({ "authentication": {
            "type": "oauth2", "token_url": "http://169.254.169.254/token", "client_id": "a", "client_secret": "b"
        }});
        let reply = world.api.call(Method::PATCH, &there.path, Some(&refused), &[]).await?;
        assert_eq!(reply.problem(422)?, "url_refused");
        assert_eq!(reply.json()?["errors"][0]["path"], "authentication.token_url");
        world.service.terminate().await?;
        assert_eq!(world.service.kept(Bucket::EndpointSecrets).await?.len(), 1);
        Ok(())
    }
}
