//! `/v1/sources`, and what other systems send to `/v1/in/…`.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use broker::layout::Bucket;
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use tests::for_each_engine;
use tests::http::{Api, Reply};
use tests::service::Tidings;

use crate::world::{get_after, tenant, text, until};

/// A shared secret that does for every scheme, and the key it means to Standard Webhooks.
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

type Headers = Vec<(&'static str, String)>;

/// A sender: how its source is set, and how it signs a body at a time.
struct Sender {
    verification: Value,
    secret: String,
    event_type: Option<Value>,
    /// The type of what it sends.
    becomes: &'static str,
    body: &'static str,
    signs_time: bool,
    sign: fn(body: &str, time: u64) -> Headers,
}

fn hmac_sha256(key: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key fits");
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().to_vec()
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn standard(version: &str, time: u64, signature: &[u8]) -> Headers {
    vec![
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", time.to_string()),
        (
            "webhook-signature",
            format!("{version},{}", BASE64_STANDARD.encode(signature)),
        ),
    ]
}

fn senders() -> Vec<Sender> {
    let key: Vec<u8> = (0..32).collect();
    assert_eq!(SECRET, format!("whsec_{}", BASE64_STANDARD.encode(key)));
    let public = signing_key().verifying_key().to_bytes();
    let fixed = || Some(json!({ "from": "fixed", "type": "shop.order" }));
    vec![
        Sender {
            verification: json!({ "scheme": "standard_webhooks" }),
            secret: SECRET.to_owned(),
            event_type: None,
            becomes: "invoice.paid",
            body: r#"{"type":"invoice.paid","timestamp":"2021-02-25T15:02:10Z","data":{"n":1.50}}"#,
            signs_time: true,
            sign: |body, time| {
                let key: Vec<u8> = (0..32).collect();
                let signed = ["msg_1", ".", &time.to_string(), ".", body];
                standard("v1", time, &hmac_sha256(&key, &signed))
            },
        },
        Sender {
            verification: json!({ "scheme": "standard_webhooks" }),
            secret: format!("whpk_{}", BASE64_STANDARD.encode(public)),
            event_type: Some(json!({ "from": "body", "pointer": "/type", "prefix": "partner" })),
            becomes: "partner.invoice.paid",
            body: r#"{"type":"invoice.paid","data":1}"#,
            signs_time: true,
            sign: |body, time| {
                let signed = format!("msg_1.{time}.{body}");
                standard("v1a", time, &signing_key().sign(signed.as_bytes()).to_bytes())
            },
        },
        Sender {
            verification: json!({ "scheme": "github" }),
            secret: SECRET.to_owned(),
            event_type: None,
            becomes: "github.pull_request",
            body: r#"{"action":"opened"}"#,
            signs_time: false,
            sign: |body, _| {
                let code = hex::encode(hmac_sha256(SECRET.as_bytes(), &[body]));
                vec![
                    ("x-hub-signature-256", format!("sha256={code}")),
                    ("x-github-event", "pull_request".to_owned()),
                    ("x-github-delivery", "1".to_owned()),
                ]
            },
        },
        Sender {
            verification: json!({ "scheme": "stripe" }),
            secret: SECRET.to_owned(),
            event_type: None,
            becomes: "stripe.charge.succeeded",
            body: r#"{"id":"evt_1","type":"charge.succeeded"}"#,
            signs_time: true,
            sign: |body, time| {
                let signed = [&time.to_string(), ".", body];
                let code = hex::encode(hmac_sha256(SECRET.as_bytes(), &signed));
                vec![("stripe-signature", format!("t={time},v1={code}"))]
            },
        },
        Sender {
            verification: json!({ "scheme": "slack" }),
            secret: SECRET.to_owned(),
            event_type: None,
            becomes: "slack.app_mention",
            body: r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#,
            signs_time: true,
            sign: |body, time| {
                let signed = ["v0:", &time.to_string(), ":", body];
                let code = hex::encode(hmac_sha256(SECRET.as_bytes(), &signed));
                vec![
                    ("x-slack-request-timestamp", time.to_string()),
                    ("x-slack-signature", format!("v0={code}")),
                ]
            },
        },
        Sender {
            verification: json!({
                "scheme": "hmac", "header": "X-Sig", "prefix": "sha512 ", "hash": "sha512", "encoding": "base64",
            }),
            secret: SECRET.to_owned(),
            event_type: fixed(),
            becomes: "shop.order",
            body: r#"{"order":7}"#,
            signs_time: false,
            sign: |body, _| {
                let mut mac = Hmac::<Sha512>::new_from_slice(SECRET.as_bytes()).expect("any key fits");
                mac.update(body.as_bytes());
                let code = BASE64_STANDARD.encode(mac.finalize().into_bytes());
                vec![("x-sig", format!("sha512 {code}"))]
            },
        },
        Sender {
            verification: json!({ "scheme": "ed25519", "header": "X-Sig", "timestamp_header": "X-Time" }),
            secret: hex::encode(public),
            event_type: Some(json!({ "from": "header", "header": "X-Topic", "prefix": "shop" })),
            becomes: "shop.orders.create",
            body: r#"{"order":8}"#,
            signs_time: true,
            sign: |body, time| {
                let signature = signing_key().sign(format!("{time}{body}").as_bytes());
                vec![
                    ("x-sig", hex::encode(signature.to_bytes())),
                    ("x-time", time.to_string()),
                    ("x-topic", "orders/create".to_owned()),
                ]
            },
        },
    ]
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}

impl Sender {
    fn named(scheme: &str) -> Self {
        let mut all = senders().into_iter();
        all.find(|sender| sender.verification["scheme"] == scheme)
            .expect("a scheme of the list")
    }

    fn new_source(&self) -> Value {
        let mut new = json!({
            "name": "A sender", "verification": self.verification, "secret": self.secret,
        });
        if let Some(event_type) = &self.event_type {
            new["event_type"] = event_type.clone();
        }
        new
    }

    /// Makes its source; answers where it sends to, and the source's path.
    async fn arrive(&self, api: &Api, more: &Value) -> anyhow::Result<(String, String)> {
        let mut new = self.new_source();
        for (name, value) in more.as_object().into_iter().flatten() {
            new[name] = value.clone();
        }
        let made = api.post("/v1/sources", &new).await?.expect(201)?;
        ensure!(
            made.get("secret").is_none(),
            "a secret that was given is shown: {made}"
        );
        let path = format!("/v1/sources/{}", text(&made, "id")?);
        Ok((text(&made, "address")?.to_owned(), path))
    }

    /// Sends a body signed now.
    async fn send(&self, anyone: &Api, address: &str, body: &str) -> anyhow::Result<Reply> {
        post(anyone, address, body, &(self.sign)(body, now())).await
    }
}

async fn post(anyone: &Api, address: &str, body: &str, headers: &[(&str, String)]) -> anyhow::Result<Reply> {
    let mut request = anyone.request(Method::POST, address);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Reply::of(
        request
            .header("content-type", "application/json")
            .body(body.to_owned()),
    )
    .await
}

/// How many events the tenant has, once there is one of this id.
async fn events_with(api: &Api, id: &str) -> anyhow::Result<usize> {
    let has = |body: &Value| {
        body["data"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["id"] == id))
    };
    let body = until(api, "/v1/events?limit=200", has).await?;
    Ok(body["data"].as_array().map_or(0, Vec::len))
}

for_each_engine! {
    /// What each sender signs becomes an event, to the byte; what is changed, signed with another secret or too old does
    /// not, and nobody is told which of these it was.
    async fn each_scheme_takes_what_its_sender_signs_and_nothing_else(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        for sender in senders() {
            let name = sender.verification.to_string();
            let (address, _) = sender.arrive(&api, &json!({})).await?;
            let (good, later) = ((sender.sign)(sender.body, now()), (sender.sign)(sender.body, now() - 301));
            let taken = post(&anyone, &address, sender.body, &good).await?;
            let id = taken.expect(202).context(name.clone())?["id"].clone();
            let path = format!("/v1/events/{}", id.as_str().context("an id")?);
            events_with(&api, id.as_str().unwrap_or_default()).await?;
            let event = api.get(&path).await?.expect(200)?;
            assert_eq!(event["type"], sender.becomes, "{name}");
            assert_eq!(event["data"], serde_json::from_str::<Value>(sender.body)?, "{name}");

            let changed = sender.body.replace('}', " }");
            let mut details = vec![
                post(&anyone, &address, &changed, &good).await?,
                post(&anyone, &address, sender.body, &[]).await?,
            ];
            if sender.signs_time {
                details.push(post(&anyone, &address, sender.body, &later).await?);
            }
            let other = Sender { secret: "whsec_HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(), ..sender };
            if other.verification["scheme"].as_str().is_none_or(|scheme| scheme != "ed25519") {
                let (address, _) = other.arrive(&api, &json!({})).await?;
                details.push(post(&anyone, &address, other.body, &good).await?);
            }
            for refused in &details {
                assert_eq!(refused.problem(401).context(name.clone())?, "signature_refused");
                assert_eq!(refused.json()?["detail"], details[0].json()?["detail"], "{name}");
                assert!(refused.header("www-authenticate").starts_with("Signature"), "{name}");
            }
        }
        let metrics = String::from_utf8_lossy(&anyone.get("/metrics").await?.body).into_owned();
        for outcome in ["taken", "signature_refused"] {
            let measure = format!("tidings_inbound_requests_total{{outcome=\"{outcome}\"}}");
            assert!(metrics.contains(&measure), "{measure} is not measured");
        }
        Ok(())
    }

    /// A message that its sender sends again, worded anew where senders do so, is answered as before and is there once,
    /// also after the process died; a recorded request under another unsigned name is refused.
    async fn what_is_sent_again_is_published_once(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let key = api.key().context("a key")?.to_owned();
        let anyone = service.anyone()?;
        let (stripe, github) = (Sender::named("stripe"), Sender::named("github"));
        let (at_stripe, _) = stripe.arrive(&api, &json!({})).await?;
        let (at_github, _) = github.arrive(&api, &json!({})).await?;
        let first = stripe.send(&anyone, &at_stripe, r#"{"id":"evt_1","type":"a.b","pending_webhooks":2}"#).await?;
        let id = text(&first.expect(202)?, "id")?.to_owned();
        assert!(first.json()?.get("duplicate").is_none());
        let pushed = github.send(&anyone, &at_github, github.body).await?.expect(202)?;

        service.kill().await?;
        service.restart().await?;
        let (api, anyone) = (service.tenant(&key)?, service.anyone()?);
        let again = stripe.send(&anyone, &at_stripe, r#"{"id":"evt_1","type":"a.b","pending_webhooks":1}"#).await?;
        assert_eq!(again.expect(202)?, json!({ "id": id, "duplicate": true }));
        let again = github.send(&anyone, &at_github, github.body).await?.expect(202)?;
        assert_eq!(again, json!({ "id": pushed["id"], "duplicate": true }));
        let mut renamed = (github.sign)(github.body, 0);
        renamed.retain(|(name, _)| *name != "x-github-delivery");
        renamed.push(("x-github-delivery", "2".to_owned()));
        assert_eq!(post(&anyone, &at_github, github.body, &renamed).await?.problem(409)?, "replayed");
        // The same message of another source is another event.
        let (elsewhere, _) = stripe.arrive(&api, &json!({})).await?;
        let other = stripe.send(&anyone, &elsewhere, r#"{"id":"evt_1","type":"a.b"}"#).await?.expect(202)?;
        assert_ne!(other["id"], json!(id));
        assert_eq!(events_with(&api, text(&other, "id")?).await?, 3);
        Ok(())
    }

    /// During the overlap both secrets count, afterwards the new one; a drawn secret is shown once and told of, none lies
    /// about in the clear, and a removed source leaves none and takes nothing.
    async fn secrets_are_rotated_with_an_overlap_and_erased_in_the_end(engine: Engine) {
        let mut service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let key = api.key().context("a key")?.to_owned();
        let github = Sender::named("github");
        let (address, path) = github.arrive(&api, &json!({})).await?;
        let sign = |secret: &str, body: &str| {
            let code = hex::encode(hmac_sha256(secret.as_bytes(), &[body]));
            vec![("x-hub-signature-256", format!("sha256={code}")), ("x-github-event", "push".to_owned())]
        };
        let rotate = format!("{path}/rotate-secret");
        let rotated = api.call(Method::POST, &rotate, None, &[]).await?;
        let second = text(&rotated.expect(200)?, "secret")?.to_owned();
        let shown = get_after(&api, &path, &rotated).await?.expect(200)?;
        assert_eq!(shown["previous_secret_valid_until"], rotated.json()?["previous_valid_until"]);
        for (number, secret) in [(1, SECRET), (2, &second)] {
            let body = json!({ "n": number }).to_string();
            post(&anyone, &address, &body, &sign(secret, &body)).await?.expect(202)?;
        }
        let third = "another secret of sixteen bytes or more";
        let ended = api.post(&rotate, &json!({ "secret": third, "overlap_hours": 0 })).await?.expect(200)?;
        assert!(ended.get("secret").is_none(), "{ended}");
        for (secret, status) in [(SECRET, 401), (&second, 401), (third, 202)] {
            let body = json!({ "n": 3 }).to_string();
            post(&anyone, &address, &body, &sign(secret, &body)).await?.expect(status)?;
        }
        let short = api.post(&rotate, &json!({ "secret": "short" })).await?;
        assert_eq!((short.problem(422)?.as_str(), &short.json()?["errors"][0]["path"]), ("invalid_body", &json!("secret")));
        service.terminate().await?;
        let kept = service.kept(Bucket::SourceSecrets).await?;
        service.restart().await?;
        let (api, anyone) = (service.tenant(&key)?, service.anyone()?);
        assert!(!kept.is_empty());
        let plain = |value: &[u8], secret: &str| value.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(kept.iter().all(|entry| ![SECRET, &second, third].iter().any(|secret| plain(&entry.value, secret))));

        let removed = api.call(Method::DELETE, &path, None, &[]).await?;
        assert_eq!(removed.status, 204);
        let body = json!({ "n": 4 }).to_string();
        assert_eq!(post(&anyone, &address, &body, &sign(third, &body)).await?.problem(404)?, "not_found");
        assert_eq!(get_after(&api, "/v1/sources", &removed).await?.expect(200)?["data"], json!([]));
        service.terminate().await?;
        assert!(service.kept(Bucket::SourceSecrets).await?.is_empty(), "a removed source left secrets");
        Ok(())
    }

    /// What proves itself can still be refused, each time with a problem that says why; the tenant hears of it.
    async fn what_cannot_be_published_is_refused_and_told(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let sender = Sender::named("hmac");
        let (address, path) = sender.arrive(&api, &json!({})).await?;
        let schema = json!({ "name": "shop.order", "schema": { "required": ["order"] } });
        api.post("/v1/event-types", &schema).await?.expect(201)?;
        let refused = sender.send(&anyone, &address, r#"{"n":1}"#).await?;
        assert_eq!(refused.problem(422)?, "schema_violation");
        assert_eq!(refused.json()?["errors"][0]["path"], "data.order");
        assert_eq!(sender.send(&anyone, &address, "{").await?.problem(400)?, "malformed_json");
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(sender.send(&anyone, &address, &deep).await?.problem(422)?, "invalid_body");
        let large = format!(r#"{{"order":"{}"}}"#, "x".repeat(600 << 10));
        assert_eq!(sender.send(&anyone, &address, &large).await?.problem(413)?, "too_large");
        let form = anyone.request(Method::POST, &address).header("content-type", "application/x-www-form-urlencoded");
        let form = (sender.sign)("a=1", 0).into_iter().fold(form, |form, (name, value)| form.header(name, value));
        assert_eq!(Reply::of(form.body("a=1")).await?.problem(415)?, "unsupported_media_type");
        assert_eq!(post(&anyone, &address, "{}", &[]).await?.problem(401)?, "signature_refused");

        assert_eq!(api.call(Method::POST, &format!("{path}/disable"), None, &[]).await?.status, 204);
        assert_eq!(sender.send(&anyone, &address, sender.body).await?.problem(409)?, "not_possible");
        assert_eq!(api.call(Method::POST, &format!("{path}/enable"), None, &[]).await?.status, 204);
        sender.send(&anyone, &address, sender.body).await?.expect(202)?;
        let limit = json!({ "rate_limit": { "requests": 1, "per_seconds": 3_600 } });
        assert_eq!(api.call(Method::PATCH, &path, Some(&limit), &[]).await?.status, 204);
        sender.send(&anyone, &address, r#"{"order":1}"#).await?.expect(202)?;
        assert_eq!(sender.send(&anyone, &address, r#"{"order":2}"#).await?.problem(429)?, "rate_limited");

        let source = path.rsplit('/').next().context("an id")?;
        let told = |body: &Value| body["data"].as_array().is_some_and(|rows| rows.len() >= 7);
        let trail = until(&api, "/v1/audit?action=command.refused&limit=200", told).await?;
        let rows = trail["data"].as_array().context("rows")?;
        let of = |problem: &str| rows.iter().find(|row| row["data"]["problem"] == problem);
        let refused = of("signature_refused").with_context(|| format!("{trail}"))?;
        assert_eq!((&refused["actor"], &refused["command"]), (&json!("system:anyone"), &json!("ReceiveWebhook")));
        let violation = of("schema_violation").with_context(|| format!("{trail}"))?;
        assert_eq!((&violation["actor"], &violation["resource_id"]), (&json!(source), &json!(source)));
        for address in ["/v1/in/in_1", "/v1/in/in_01ARZ3NDEKTSV4RRFFQ69G5FAV01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert_eq!(sender.send(&anyone, address, sender.body).await?.problem(404)?, "not_found");
        }
        Ok(())
    }

    /// GitHub's ping and Slack's challenge are answered once they are proved, and published never; too many wrong
    /// signatures from one address close this source to it, and no other.
    async fn pings_are_answered_and_impostors_slowed_down(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone) = (tenant(&service, "acme").await?, service.anyone()?);
        let (slack, github) = (Sender::named("slack"), Sender::named("github"));
        let (at_slack, _) = slack.arrive(&api, &json!({})).await?;
        let (at_github, _) = github.arrive(&api, &json!({})).await?;
        let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1aB1","token":"x"}"#;
        let told = slack.send(&anyone, &at_slack, challenge).await?.expect(200)?;
        assert_eq!(told["challenge"], "3eZbrw1aB1");
        assert_eq!(post(&anyone, &at_slack, challenge, &[]).await?.problem(401)?, "signature_refused");
        let mut ping = (github.sign)("{}", 0);
        ping.retain(|(name, _)| *name != "x-github-event");
        ping.push(("x-github-event", "ping".to_owned()));
        post(&anyone, &at_github, "{}", &ping).await?.expect(200)?;
        let last = github.send(&anyone, &at_github, github.body).await?.expect(202)?;
        assert_eq!(events_with(&api, text(&last, "id")?).await?, 1);

        for _ in 0..40 {
            let refused = post(&anyone, &at_github, "{}", &[]).await?;
            if refused.status == 429 {
                assert_eq!(refused.problem(429)?, "rate_limited");
                slack.send(&anyone, &at_slack, slack.body).await?.expect(202)?;
                return Ok(());
            }
            assert_eq!(refused.problem(401)?, "signature_refused");
        }
        anyhow::bail!("forty wrong signatures, and it still listens")
    }

    /// A source is shown as it is set, changed in parts, paged, and another tenant's is nobody's.
    async fn a_source_goes_through_its_whole_life(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, other) = (tenant(&service, "acme").await?, tenant(&service, "other").await?);
        let made = api.post("/v1/sources", &json!({ "name": "GitHub", "verification": { "scheme": "github" } })).await?;
        let body = made.expect(201)?;
        assert!(text(&body, "secret")?.len() >= 43);
        let path = format!("/v1/sources/{}", text(&body, "id")?);
        let shown = get_after(&api, &path, &made).await?.expect(200)?;
        assert_eq!(shown["address"], body["address"]);
        assert_eq!(shown["event_type"], json!({ "from": "header", "header": "x-github-event", "prefix": "github" }));
        assert_eq!((&shown["tolerance_seconds"], &shown["status"]), (&json!(300), &json!("enabled")));
        assert!(shown.get("secret").is_none());
        let change = json!({ "name": "Forge", "tolerance_seconds": 60, "event_type": { "from": "fixed", "type": "a.b" } });
        let changed = api.call(Method::PATCH, &path, Some(&change), &[]).await?;
        let shown = get_after(&api, &path, &changed).await?.expect(200)?;
        assert_eq!((&shown["name"], &shown["tolerance_seconds"]), (&json!("Forge"), &json!(60)));
        assert_eq!(shown["verification"], json!({ "scheme": "github" }));
        let verification = json!({ "verification": { "scheme": "slack" } });
        assert_eq!(api.call(Method::PATCH, &path, Some(&verification), &[]).await?.problem(422)?, "invalid_body");
        for (new, place) in [
            (json!({ "name": "x", "verification": { "scheme": "ed25519", "header": "x" } }), "secret"),
            (json!({ "name": "x", "verification": { "scheme": "hmac", "header": "x", "hash": "sha256" } }), "event_type"),
            (json!({ "name": "x", "verification": { "scheme": "github" }, "secret": "short" }), "secret"),
            (json!({ "name": "x", "verification": { "scheme": "crc32" } }), "verification"),
            (json!({ "name": "x", "verification": { "scheme": "github" }, "tolerance_seconds": 43_201 }), "tolerance_seconds"),
        ] {
            let refused = api.post("/v1/sources", &new).await?;
            assert_eq!(refused.problem(422)?, "invalid_body", "{new}");
            let at = refused.json()?["errors"][0]["path"].as_str().unwrap_or_default().to_owned();
            assert!(at.starts_with(place), "{new}: {at}");
        }
        assert_eq!(other.get(&path).await?.problem(404)?, "not_found");
        assert_eq!(other.call(Method::DELETE, &path, None, &[]).await?.problem(404)?, "not_found");
        assert_eq!(other.get("/v1/sources").await?.expect(200)?["data"], json!([]));
        Ok(())
    }

    /// The example of `docs/inbound.md` works as it stands there.
    async fn the_documented_example_works(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let api = tenant(&service, "acme").await?;
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/inbound.md"))?;
        let (_, rest) = page.split_once("```sh\n").context("an example")?;
        let (script, _) = rest.split_once("```").context("its end")?;
        let output = tokio::process::Command::new("sh")
            .args(["-euc", script])
            .env("TIDINGS", service.url())
            .env("KEY", api.key().context("a key")?)
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(Duration::from_mins(1), output).await??;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_str(&told)?;
        let id = text(&answer, "id")?;
        events_with(&api, id).await?;
        assert_eq!(api.get(&format!("/v1/events/{id}")).await?.expect(200)?["type"], "github.push");
        Ok(())
    }
}

/// Processes beside each other recognise what the other has taken, and learn of another secret at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_what_they_have_taken() -> anyhow::Result<()> {
    let service = Tidings::start(tests::service::Engine::Cluster).await?;
    let api = tenant(&service, "acme").await?;
    let beside = service.beside().await?;
    let (here, there) = (service.anyone()?, beside.tenant("nobody's")?);
    let github = Sender::named("github");
    let (address, path) = github.arrive(&api, &json!({})).await?;
    let first = github.send(&here, &address, github.body).await?.expect(202)?;
    let again = github.send(&there, &address, github.body).await?.expect(202)?;
    assert_eq!(again, json!({ "id": first["id"], "duplicate": true }));
    let another = json!({ "secret": "another secret of sixteen bytes or more", "overlap_hours": 0 });
    api.post(&format!("{path}/rotate-secret"), &another)
        .await?
        .expect(200)?;
    let body = r#"{"n":1}"#;
    let code = hex::encode(hmac_sha256(b"another secret of sixteen bytes or more", &[body]));
    let headers = [
        ("x-hub-signature-256", format!("sha256={code}")),
        ("x-github-event", "push".to_owned()),
    ];
    post(&there, &address, body, &headers).await?.expect(202)?;
    Ok(())
}
