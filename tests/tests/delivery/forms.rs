//! The form of webhooks: headers, method, Standard Webhooks and `CloudEvents`.

use serde_json::{Value, json};
use tests::for_each_engine;

use crate::world::{World, patch, text, until};

/// The request of an event's only attempt, as the delivery log tells of it.
async fn told(world: &World, event: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/deliveries?event={event}&status=delivered");
    let list = until(&world.api, &path, |list| list["data"][0].is_object()).await?;
    let path = format!("/v1/deliveries/{}/attempts", text(&list["data"][0], "id")?);
    let attempts = world.api.get(&path).await?.expect(200)?;
    let attempt = text(&attempts["data"][0], "id")?;
    world
        .api
        .get(&format!("{path}/{attempt}/request"))
        .await?
        .expect(200)
}

for_each_engine! {
    /// Headers come with each webhook, secret ones too, by the method asked for; a header that was replaced is sent no
    /// more. The delivery log tells the names of secret ones and not what they say.
    async fn headers_and_method_are_as_asked_for(engine: Engine) {
        let world = World::start(engine).await?;
        let policy = json!({ "method": "PUT", "headers": [
            { "name": "X-Source", "value": "tidings" },
            { "name": "X-Key", "value": "open sesame", "secret": true },
            { "name": "Authorization", "value": "Custom 1", "secret": true }
        ]});
        let endpoint = world.endpoint("/hook", &policy).await?;
        let event = world.publish("a.b", &json!({ "n": 1 })).await?;
        let webhook = world.webhook(&event).await?;
        webhook.verify(&endpoint.secret)?;
        let request = told(&world, &event).await?;
        assert_eq!(request["method"], "PUT");
        for (name, value) in [("x-source", json!("tidings")), ("x-key", Value::Null), ("authorization", Value::Null)] {
            let fields = request["headers"].as_array().expect("headers");
            let field = fields.iter().find(|field| field["name"] == name).expect("the header");
            assert_eq!(field["value"], value, "{name}");
        }
        assert_eq!(webhook.method.as_str(), "PUT");
        let sent = |name: &str| webhook.header(name).to_owned();
        assert_eq!((sent("x-source"), sent("x-key")), ("tidings".to_owned(), "open sesame".to_owned()));
        assert_eq!((sent("authorization"), sent("content-type")), ("Custom 1".to_owned(), "application/json".to_owned()));

        let change = json!({ "method": "PATCH", "headers": [{ "name": "x-key", "value": "another", "secret": true }] });
        patch(&world.api, &endpoint.path, &change).await?;
        let webhook = world.webhook(&world.publish("a.b", &json!({ "n": 2 })).await?).await?;
        webhook.verify(&endpoint.secret)?;
        assert_eq!((webhook.method.as_str(), webhook.header("x-key"), webhook.header("x-source")), ("PATCH", "another", ""));
        Ok(())
    }

    /// Each form carries the data as they were published, and the signature covers the body that is sent.
    async fn each_format_is_signed_and_carries_the_data(engine: Engine) {
        let world = World::start(engine).await?;
        let tenant = world.endpoint("/standard", &json!({ "event_types": ["standard"] })).await?;
        let structured = json!({ "format": "cloudevents_structured", "event_types": ["structured.a"] });
        let structured = world.endpoint("/structured", &structured).await?;
        let binary = world.endpoint("/binary", &json!({ "format": "cloudevents_binary", "event_types": ["binary.a"] })).await?;
        let data = json!({ "amount": 12.5, "name": "Ådå" });

        let id = world.publish("standard", &data).await?;
        let webhook = world.webhook(&id).await?;
        webhook.verify(&tenant.secret)?;
        let body = webhook.json()?;
        assert_eq!((&body["type"], &body["data"]), (&json!("standard"), &data));

        let id = world.publish("structured.a", &data).await?;
        let webhook = world.webhook(&id).await?;
        webhook.verify(&structured.secret)?;
        webhook.verify_with_python(&structured.secret).await?;
        assert_eq!(webhook.header("content-type"), "application/cloudevents+json");
        let event = webhook.json()?;
        let ours = |list: &Value| list["data"].as_array().and_then(|rows| rows.iter().find(|row| row["id"] == id).cloned());
        let published = until(&world.api, "/v1/events", |list| ours(list).is_some()).await?;
        let published = ours(&published).expect("the event");
        let source = event["source"].as_str().expect("a source");
        assert!(source.starts_with("urn:tidings:ten_"), "{source}");
        let expected = json!({
            "specversion": "1.0", "id": id, "source": source, "type": "structured.a", "time": published["published_at"],
            "datacontenttype": "application/json", "data": data
        });
        assert_eq!(event, expected);
        assert_eq!(text(&told(&world, &id).await?, "body")?.as_bytes(), &webhook.body[..]);

        let id = world.publish("binary.a", &data).await?;
        let webhook = world.webhook(&id).await?;
        webhook.verify(&binary.secret)?;
        webhook.verify_with_python(&binary.secret).await?;
        assert_eq!(webhook.json()?, data);
        let header = |name: &str| webhook.header(name);
        assert_eq!(
            [header("content-type"), header("ce-specversion"), header("ce-id"), header("ce-source"), header("ce-type")],
            ["application/json", "1.0", &id, source, "binary.a"]
        );
        assert!(header("ce-time").ends_with('Z'), "{}", header("ce-time"));
        Ok(())
    }
}
