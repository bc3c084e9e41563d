//! The delivery log: what each attempt sent and brought, told within a second.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::{Answer, Received};
use tokio::net::TcpListener;

use crate::world::{PATIENCE, World, text, until};

/// A delivery of an event, once it has a status.
async fn delivery(world: &World, event: &str, status: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/deliveries?event={event}&status={status}");
    let list = until(&world.api, &path, |list| list["data"][0].is_object()).await?;
    Ok(list["data"][0].clone())
}

/// Compares a request as it is told of with what came, to the byte of its body.
fn same(told: &Value, came: &Received, url: &str) -> anyhow::Result<()> {
    ensure!(
        told["method"] == came.method.as_str() && told["url"] == url,
        "{told}"
    );
    let fields = told["headers"].as_array().context("headers")?.iter();
    let fields: Vec<_> = fields
        .map(|field| (field["name"].clone(), field["value"].clone()))
        .collect();
    let told_of: BTreeMap<String, Value> = fields
        .iter()
        .map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), value.clone()))
        .collect();
    ensure!(told_of.len() == fields.len(), "a field is told of twice: {told}");
    let came_with = came.headers.iter();
    let came_with = came_with.map(|(name, value)| Ok((name.to_string(), json!(value.to_str()?))));
    let came_with = came_with.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    ensure!(told_of == came_with, "told {told_of:?}, came {came_with:?}");
    ensure!(
        told["body"].as_str().map(str::as_bytes) == Some(&came.body[..]),
        "{told}"
    );
    ensure!(told["body_bytes"] == came.body.len(), "{told}");
    Ok(())
}

for_each_engine! {
    /// Two attempts: what was sent is what came, to the byte; what was answered is told without the receiver's secrets.
    async fn each_attempt_tells_what_was_sent_and_what_came_back(engine: Engine) {
        let world = World::start_with(engine, &[("TIDINGS_RETRY_SCHEDULE", "20ms")]).await?;
        let secret = Answer::With(500, "set-cookie", "session=hush".to_owned());
        world.receiver.script("/hook", [secret, Answer::Status(204)]);
        world.endpoint("/hook", &json!({})).await?;
        let body = r#"{"type":"invoice.paid","data":{ "b":1.50,  "a":12345678901234567890, "n":"Ådå" }}"#;
        let published = world.api.post_bytes("/v1/events", body).await?.expect(202)?;
        let event = text(&published, "id")?;
        let delivery = delivery(&world, event, "delivered").await?;
        let path = format!("/v1/deliveries/{}/attempts", text(&delivery, "id")?);
        let attempts = world.api.get(&path).await?.expect(200)?;
        let attempts = attempts["data"].as_array().context("data")?;
        ensure!(attempts.len() == 2, "{attempts:?}");

        let (first, second) = (&attempts[0], &attempts[1]);
        ensure!(first["status"] == 500 && first["error"] == "status", "{first}");
        ensure!(first["response_body"] == "noted" && first["duration_ms"].is_u64(), "{first}");
        let fields = first["response_headers"].as_array().context("response_headers")?;
        let value = |name: &str| fields.iter().find(|field| field["name"] == name).map(|field| &field["value"]);
        ensure!(value("set-cookie") == Some(&Value::Null), "a receiver's secret was kept: {first}");
        ensure!(value("content-length") == Some(&json!("5")), "{first}");
        ensure!(!first.to_string().contains("hush"), "{first}");
        ensure!(second["status"] == 204 && second["error"].is_null(), "{second}");

        let came = world.receiver.received();
        for (attempt, came) in attempts.iter().zip(&came) {
            let request = format!("{path}/{}/request", text(attempt, "id")?);
            let told = world.api.get(&request).await?.expect(200)?;
            same(&told, came, &world.receiver.url("/hook"))?;
        }
        ensure!(came[0].header("webhook-id") == event);

        // Another delivery's attempt, another's delivery, and what is no attempt, are not found.
        let other = format!("/v1/deliveries/dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV/attempts/{}/request", text(first, "id")?);
        for path in [other, format!("{path}/d0-1/request"), format!("{path}/e0-1/request")] {
            ensure!(world.api.get(&path).await?.problem(404)? == "not_found", "{path}");
        }
        Ok(())
    }

    /// Each way in which a receiver can fail has its word.
    async fn failures_have_classes(engine: Engine) {
        let settings = [("TIDINGS_RETRY_SCHEDULE", ""), ("TIDINGS_DELIVERY_TIMEOUT", "1s")];
        let world = World::start_with(engine, &settings).await?;
        world.receiver.script("/hang", [Answer::Hang]);
        world.receiver.script("/fail", [Answer::Status(503)]);
        let closed = TcpListener::bind("127.0.0.1:0").await?;
        let refused = format!("http://{}/", closed.local_addr()?);
        drop(closed);
        let breaking = TcpListener::bind("127.0.0.1:0").await?;
        let reset = format!("http://{}/", breaking.local_addr()?);
        let hangs_up = tokio::spawn(async move {
            while let Ok((connection, _)) = breaking.accept().await {
                // Closed with the request unread, a connection is reset.
                connection.set_zero_linger().ok();
            }
        });
        let no_tls = world.receiver.url("/tls").replace("http://", "https://");
        let ways = [
            ("timeout", world.receiver.url("/hang")),
            ("status", world.receiver.url("/fail")),
            ("refused", refused),
            ("reset", reset),
            ("tls", no_tls),
            ("dns", "http://receiver.invalid/".to_owned()),
        ];
        let mut expected = BTreeMap::new();
        for (class, url) in ways {
            let new = json!({ "url": url, "event_types": ["*"] });
            let made = world.api.post("/v1/endpoints", &new).await?.expect(201)?;
            expected.insert(text(&made, "id")?.to_owned(), class);
        }
        let event = world.publish("invoice.paid", &json!(1)).await?;
        let path = format!("/v1/deliveries?event={event}&status=dead");
        let all = |list: &Value| list["data"].as_array().is_some_and(|rows| rows.len() == expected.len());
        let dead = until(&world.api, &path, all).await?;
        for row in dead["data"].as_array().context("data")? {
            let class = expected.get(text(row, "endpoint")?).context("an endpoint")?;
            ensure!(row["last_error"] == *class, "{class}: {row}");
            let path = format!("/v1/deliveries/{}/attempts", text(row, "id")?);
            let attempts = world.api.get(&path).await?.expect(200)?;
            let attempt = &attempts["data"][0];
            ensure!(attempt["error"] == *class && attempt["detail"].is_string(), "{attempt}");
            ensure!(attempt["response_headers"].is_null() == (*class != "status"), "{attempt}");
        }
        hangs_up.abort();
        Ok(())
    }

    /// From the receiver's answer until the attempt can be queried it is less than a second, each time.
    async fn an_attempt_is_seen_within_a_second(engine: Engine) {
        let world = World::start(engine).await?;
        world.endpoint("/hook", &json!({})).await?;
        let mut longest = Duration::ZERO;
        for number in 0..20 {
            let event = world.publish("invoice.paid", &json!(number)).await?;
            let came = world.receiver.wait_for(number + 1, PATIENCE).await?;
            let path = format!("/v1/deliveries?event={event}&status=delivered");
            until(&world.api, &path, |list| list["data"][0].is_object()).await?;
            longest = longest.max(SystemTime::now().duration_since(came[number].at)?);
        }
        println!("an attempt was seen {longest:?} after it was made, at the latest");
        ensure!(longest < Duration::from_secs(1), "an attempt was seen only after {longest:?}");
        Ok(())
    }
}
