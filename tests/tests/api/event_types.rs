//! `/v1/event-types`, and what they mean for `/v1/events`.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text};

/// An invoice with lines, each with an amount.
fn invoice() -> Value {
    json!({
        "type": "object",
        "required": ["id", "lines"],
        "properties": {
            "id": { "type": "string", "pattern": "^inv-\\d+$" },
            "lines": { "type": "array", "items": { "$ref": "#/$defs/line" } },
        },
        "$defs": { "line": { "required": ["amount"], "properties": { "amount": { "type": "integer" } } } },
    })
}

async fn publish(api: &Api, data: Value) -> anyhow::Result<Reply> {
    api.post("/v1/events", &json!({ "type": "invoice.paid", "data": data }))
        .await
}

/// The places that a problem names, in order.
fn places(reply: &Reply, code: &str) -> anyhow::Result<Vec<String>> {
    assert_eq!(reply.problem(422)?, code);
    let body = reply.json()?;
    let errors = body["errors"].as_array().context("errors")?;
    let mut places: Vec<String> = errors
        .iter()
        .filter_map(|error| error["path"].as_str().map(str::to_owned))
        .collect();
    places.sort();
    Ok(places)
}

async fn add_version(api: &Api, schema: Value) -> anyhow::Result<Reply> {
    api.post(
        "/v1/event-types/invoice.paid/versions",
        &json!({ "schema": schema }),
    )
    .await
}

/// A process that had no part in it learns of a schema within five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_checks_with_a_new_schema_soon() -> anyhow::Result<()> {
    let service = Tidings::start(tests::service::Engine::Cluster).await?;
    let api = tenant(&service, "acme").await?;
    let beside = service.beside().await?;
    let other = beside.tenant(api.key().context("a key")?)?;
    publish(&other, json!(7)).await?.expect(202)?;
    let new = json!({ "name": "invoice.paid", "schema": { "type": "object" } });
    api.post("/v1/event-types", &new).await?.expect(201)?;
    let registered = Instant::now();
    loop {
        let reply = publish(&other, json!(7)).await?;
        if reply.status != 202 {
            assert_eq!(places(&reply, "schema_violation")?, ["data"]);
            return Ok(());
        }
        // Five seconds, and what the calls themselves take.
        assert!(
            registered.elapsed() < Duration::from_secs(7),
            "it still does not know"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

for_each_engine! {
    /// Events of a registered type must fit its latest schema, and a refusal names every place that does not.
    async fn events_are_checked_with_the_latest_schema_of_their_type(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let bad = json!({ "id": "7", "lines": [{ "amount": 1 }, { "amount": "2" }, {}, { "amount": 1.5 }] });
        publish(&api, bad.clone()).await?.expect(202)?;
        let new = json!({ "name": "invoice.paid", "description": "Paid.", "schema": invoice() });
        let made = api.post("/v1/event-types", &new).await?.expect(201)?;
        assert_eq!((text(&made, "name")?, &made["version"]), ("invoice.paid", &json!(1)));

        // At once, although it was known as unregistered a moment ago.
        let refused = publish(&api, bad.clone()).await?;
        let expected = ["data.id", "data.lines[1].amount", "data.lines[2].amount", "data.lines[3].amount"];
        assert_eq!(places(&refused, "schema_violation")?, expected);
        let good = json!({ "id": "inv-7", "lines": [{ "amount": 1 }] });
        publish(&api, good.clone()).await?.expect(202)?;
        assert_eq!(places(&publish(&api, json!(7)).await?, "schema_violation")?, ["data"]);

        let event = |event_type: &str, data: &Value| json!({ "type": event_type, "data": data });
        let bulk = json!({ "events": [
            event("invoice.paid", &good), event("other.thing", &bad), event("invoice.paid", &json!({ "id": "inv-1" })),
            event("invoice.paid", &json!({ "lines": [], "id": 7 })),
        ] });
        let refused = api.post("/v1/events/bulk", &bulk).await?;
        assert_eq!(places(&refused, "schema_violation")?, ["events[2].data.lines", "events[3].data.id"]);
        let last = publish(&api, good.clone()).await?;
        let events = get_after(&api, "/v1/events", &last).await?.expect(200)?;
        assert_eq!(events["data"].as_array().map(Vec::len), Some(3), "a refused event was published");

        let added = add_version(&api, json!({ "required": ["paid_at"] })).await?;
        assert_eq!(added.expect(201)?["version"], 2);
        assert_eq!(places(&publish(&api, good).await?, "schema_violation")?, ["data.paid_at"]);
        publish(&api, json!({ "paid_at": "today" })).await?.expect(202)?;
        // Another tenant's event of this name is its own.
        publish(&tenant(&service, "other").await?, bad).await?.expect(202)?;
        Ok(())
    }

    /// A tenant that wants registered types only gets no others, once its setting has come round.
    async fn a_strict_tenant_takes_registered_types_only(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        api.post("/v1/event-types", &json!({ "name": "invoice.paid", "schema": {} })).await?.expect(201)?;
        let unknown = json!({ "type": "other.thing", "data": {} });
        api.post("/v1/events", &unknown).await?.expect(202)?;
        let strict = json!({ "strict_event_types": true });
        let changed = api.call(Method::PATCH, "/v1/settings", Some(&strict), &[]).await?;
        assert!(changed.status < 300, "{}", changed.status);
        let since = Instant::now();
        let refused = loop {
            let reply = api.post("/v1/events", &unknown).await?;
            if reply.status != 202 {
                break reply;
            }
            assert!(since.elapsed() < Duration::from_secs(7), "it is still taken");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(places(&refused, "schema_violation")?, ["type"]);
        let bulk = json!({ "events": [{ "type": "invoice.paid", "data": 1 }, unknown] });
        let refused = api.post("/v1/events/bulk", &bulk).await?;
        assert_eq!(places(&refused, "schema_violation")?, ["events[1].type"]);
        publish(&api, json!(1)).await?.expect(202)?;
        Ok(())
    }

    /// A type is registered, shown, described, gets versions, is retired, and comes back.
    async fn an_event_type_goes_through_its_whole_life(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let new = json!({ "name": "invoice.paid", "description": "Paid.", "schema": invoice() });
        api.post("/v1/event-types", &new).await?.expect(201)?;
        assert_eq!(api.post("/v1/event-types", &new).await?.problem(409)?, "not_possible");
        let path = "/v1/event-types/invoice.paid";
        let change = json!({ "description": null, "deprecated": true });
        let changed = api.call(Method::PATCH, path, Some(&change), &[]).await?;
        assert_eq!(changed.status, 204);
        let shown = get_after(&api, path, &changed).await?.expect(200)?;
        assert_eq!((&shown["description"], &shown["deprecated"]), (&Value::Null, &json!(true)));
        assert_eq!((&shown["version"], &shown["schema"]), (&json!(1), &invoice()));

        let added = add_version(&api, json!({ "type": "object" })).await?;
        assert_eq!(added.expect(201)?["version"], 2);
        let again = add_version(&api, json!({ "type": "object" })).await?;
        assert_eq!(again.expect(201)?["version"], 2, "the same schema is no new version");
        let shown = get_after(&api, path, &again).await?.expect(200)?;
        assert_eq!((&shown["version"], &shown["schema"]), (&json!(2), &json!({ "type": "object" })));
        let first = api.get(&format!("{path}/versions/1")).await?.expect(200)?;
        assert_eq!((&first["version"], &first["schema"]), (&json!(1), &invoice()));
        for number in ["0", "3", "x", "-1"] {
            assert_eq!(api.get(&format!("{path}/versions/{number}")).await?.problem(404)?, "not_found");
        }

        let retired = api.call(Method::DELETE, path, None, &[]).await?;
        assert_eq!(retired.status, 204);
        publish(&api, json!("anything")).await?.expect(202)?;
        assert_eq!(get_after(&api, path, &retired).await?.problem(404)?, "not_found");
        assert_eq!(api.get("/v1/event-types").await?.expect(200)?["data"], json!([]));
        assert_eq!(add_version(&api, json!({})).await?.problem(404)?, "not_found");
        let back = api.post("/v1/event-types", &new).await?;
        assert_eq!(back.expect(201)?["version"], 3);
        assert_eq!(get_after(&api, path, &back).await?.expect(200)?["deprecated"], false);
        assert_eq!(api.get(&format!("{path}/versions/2")).await?.expect(200)?["schema"], json!({ "type": "object" }));
        Ok(())
    }

    /// Types are paged, newest first.
    async fn event_types_are_listed_in_pages(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let mut last = None;
        for number in 0..5 {
            let new = json!({ "name": format!("thing.t{number}"), "schema": { "title": format!("{number}") } });
            let reply = api.post("/v1/event-types", &new).await?;
            reply.expect(201)?;
            last = Some(reply);
        }
        get_after(&api, "/v1/event-types", &last.context("five were made")?).await?.expect(200)?;
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for _ in 0..3 {
            let page = api.get(&format!("/v1/event-types?limit=2{cursor}")).await?.expect(200)?;
            seen.extend(page["data"].as_array().context("rows")?.iter().map(|row| row["name"].to_string()));
            cursor = page["next_cursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
        }
        assert!(cursor.is_empty(), "the third page is the last");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);
        Ok(())
    }

    /// What is no schema is refused at its place, and what would reach outside is never followed.
    async fn a_schema_is_checked_before_it_is_kept(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let register = async |schema: Value| -> anyhow::Result<Reply> {
            api.post("/v1/event-types", &json!({ "name": "invoice.paid", "schema": schema })).await
        };
        for (schema, place) in [
            (json!({ "properties": { "a": { "type": "objekt" } } }), "schema.properties.a.type"),
            (json!({ "items": { "$ref": "https://example.org/a.json" } }), "schema.items.$ref"),
            (json!({ "allOf": [{ "$ref": "file:///etc/passwd" }] }), "schema.allOf[0].$ref"),
            (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "schema"),
            (json!({ "title": "x".repeat(66_000) }), "schema"),
            (json!({ "pattern": "(?=a)" }), "schema"),
            (json!(true), "schema"),
        ] {
            assert_eq!(places(&register(schema.clone()).await?, "invalid_body")?, [place], "{schema}");
        }
        let bomb = format!(r#"{{"name":"invoice.paid","schema":{}{{}}{}}}"#, r#"{"not":"#.repeat(65), "}".repeat(65));
        let refused = api.post_bytes("/v1/event-types", bomb).await?;
        assert_eq!(places(&refused, "invalid_body")?, ["schema"]);
        assert_eq!(api.get("/v1/event-types").await?.expect(200)?["data"], json!([]));
        register(json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object" })).await?.expect(201)?;
        Ok(())
    }
}
