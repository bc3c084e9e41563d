//! The trail as it grows.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::service::{Engine as Kind, Tidings};
use tokio::time::{Instant, timeout};

use crate::world::{PATIENCE, entries, tenant, text};

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sent {
    id: String,
    event: String,
    data: Value,
}

/// A stream being read.
struct Reader {
    response: Response,
    text: String,
}

impl Reader {
    async fn open(api: &Api, query: &str, last: Option<&str>) -> anyhow::Result<Self> {
        let mut request = api
            .request(Method::GET, &format!("/v1/audit/stream{query}"))
            .timeout(Duration::from_mins(2));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await?;
        ensure!(
            response.status() == 200,
            "{}: {}",
            response.status(),
            response.text().await?
        );
        let media_type = response.headers()["content-type"].to_str()?.to_owned();
        ensure!(media_type == "text/event-stream", "{media_type}");
        Ok(Self {
            response,
            text: String::new(),
        })
    }

    /// The next event; none where the stream has ended.
    async fn next(&mut self) -> anyhow::Result<Option<Sent>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut sent = Sent::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => id.clone_into(&mut sent.id),
                        Some(("event", event)) => event.clone_into(&mut sent.event),
                        Some(("data", data)) => sent.data = serde_json::from_str(data)?,
                        _ => {}
                    }
                }
                let read = self.text.len() - rest.len();
                self.text.drain(..read);
                return Ok(Some(sent));
            }
            match timeout(PATIENCE, self.response.chunk())
                .await
                .context("nothing is sent")??
            {
                Some(bytes) => self.text.push_str(std::str::from_utf8(&bytes)?),
                None => return Ok(None),
            }
        }
    }

    /// The next entry.
    async fn entry(&mut self) -> anyhow::Result<Sent> {
        loop {
            match self.next().await?.context("the stream has ended")? {
                sent if sent.event == "entry" => return Ok(sent),
                sent => ensure!(sent.event.is_empty() && !sent.id.is_empty(), "{sent:?}"),
            }
        }
    }
}

async fn register(api: &Api, number: usize) -> anyhow::Result<()> {
    let new = json!({ "email": format!("user{number}@example.org"), "name": format!("User {number}") });
    api.post("/v1/users", &new).await?.expect(201)?;
    Ok(())
}

for_each_engine! {
    /// Under load, with a reader that breaks off again and again, each entry comes once and in the order of the log.
    async fn a_stream_goes_on_where_it_was(engine: Engine) {
        const USERS: usize = 300;
        let service = Tidings::start(engine).await?;
        let (_, api) = tenant(&service, "acme").await?;
        let (_, other) = tenant(&service, "other").await?;
        let mut first = Reader::open(&api, "?resource=user", None).await?;
        let mut last = first.next().await?.context("a place to go on from")?.id;
        ensure!(!last.is_empty(), "the first thing sent has no id");
        drop(first);
        let writer = async {
            for number in 0..USERS {
                register(&api, number).await?;
                if number % 3 == 0 {
                    register(&other, number).await?;
                }
            }
            anyhow::Ok(())
        };
        let reader = async {
            let mut seen: Vec<Value> = Vec::new();
            let deadline = Instant::now() + Duration::from_mins(1);
            while seen.len() < USERS {
                ensure!(Instant::now() < deadline, "{} of {USERS} entries came", seen.len());
                let mut reader = Reader::open(&api, "?resource=user", Some(&last)).await?;
                for _ in 0..=(seen.len() % 23) {
                    if seen.len() == USERS {
                        break;
                    }
                    let sent = reader.entry().await?;
                    last.clone_from(&sent.id);
                    seen.push(sent.data);
                }
            }
            anyhow::Ok((seen, last))
        };
        let ((), (seen, last)) = tokio::try_join!(writer, reader)?;
        let emails: Vec<_> = seen.iter().map(|entry| entry["data"]["email"].as_str().unwrap_or_default().to_owned()).collect();
        let wanted: Vec<_> = (0..USERS).map(|number| format!("user{number}@example.org")).collect();
        assert_eq!(emails, wanted);
        let listed = entries(&api, "action=user.registered&limit=1", 1).await?;
        assert_eq!(Some(&listed[0]), seen.last(), "the stream tells what the list tells");
        ensure!(last.starts_with(text(&listed[0], "position")?), "{last}");

        let mut again = Reader::open(&api, "?resource=user&after=e0-0", None).await?;
        for number in 0..5 {
            let sent = again.entry().await?;
            assert_eq!(sent.data["data"]["email"], format!("user{number}@example.org"));
        }
        assert_eq!(api.get("/v1/audit/stream?after=42").await?.problem(400)?, "invalid_query");
        let wrong = [("last-event-id", "42")];
        assert_eq!(api.call(Method::GET, "/v1/audit/stream", None, &wrong).await?.problem(400)?, "invalid_header");
        Ok(())
    }

    /// A stream ends when its key is revoked or loses its right, when the service stops; a tenant has so many at most.
    async fn a_stream_ends_with_its_key_and_the_service(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let (_, api) = tenant(&service, "acme").await?;
        let issue = async |scopes: &[&str]| -> anyhow::Result<(String, Api)> {
            let issued = api.post("/v1/api-keys", &json!({ "name": "reader", "scopes": scopes })).await?.expect(201)?;
            Ok((format!("/v1/api-keys/{}", text(&issued, "id")?), service.tenant(text(&issued, "api_key")?)?))
        };
        let (revoked, one) = issue(&["audit.read.tenant"]).await?;
        let (narrowed, two) = issue(&["audit.read.tenant"]).await?;
        let (_, three) = issue(&["users.read.tenant"]).await?;
        assert_eq!(three.get("/v1/audit/stream").await?.problem(403)?, "forbidden");
        let mut streams = Vec::new();
        for key in [&one, &two] {
            streams.push(Reader::open(key, "?action=none", None).await?);
        }
        assert_eq!(api.post(&format!("{revoked}/revoke"), &json!({})).await?.status, 204);
        let scopes = json!({ "scopes": ["users.read.tenant"] });
        assert_eq!(api.call(Method::PATCH, &narrowed, Some(&scopes), &[]).await?.status, 204);
        for (stream, code) in streams.iter_mut().zip(["unauthenticated", "forbidden"]) {
            let end = loop {
                match stream.next().await?.context("no end was told")? {
                    sent if sent.event == "end" => break sent,
                    _ => {}
                }
            };
            assert_eq!(end.data["code"], code);
            assert_eq!(stream.next().await?, None, "the stream goes on");
        }

        let mut many = Vec::new();
        for _ in 0..10 {
            many.push(Reader::open(&api, "", None).await?);
        }
        assert_eq!(api.get("/v1/audit/stream").await?.problem(429)?, "rate_limited");
        drop(many.pop());
        let deadline = Instant::now() + PATIENCE;
        while Reader::open(&api, "", None).await.map(|reader| many.push(reader)).is_err() {
            ensure!(Instant::now() < deadline, "a stream that was closed still counts");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let started = Instant::now();
        ensure!(service.terminate().await?.success(), "it did not end well");
        ensure!(started.elapsed() < Duration::from_secs(10), "open streams held up the end");
        Ok(())
    }
}

/// The projectors of another process are followed too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_processs_projectors_are_followed() -> anyhow::Result<()> {
    let service = Tidings::start(Kind::Cluster).await?;
    let (_, api) = tenant(&service, "acme").await?;
    let beside = service.beside_with(&[("TIDINGS_ROLES", "gateway")]).await?;
    let there = beside.tenant(api.key().context("key")?)?;
    let mut reader = Reader::open(&there, "?action=user.registered", None).await?;
    ensure!(!reader.next().await?.context("a place")?.id.is_empty());
    for number in 0..20 {
        register(&api, number).await?;
        let sent = reader.entry().await?;
        if sent.data["data"]["email"] != format!("user{number}@example.org") {
            bail!("{sent:?} came for {number}");
        }
    }
    Ok(())
}
