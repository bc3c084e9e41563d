//! How Tidings proves to receivers who it is.

use serde_json::{Value, json};
use tests::for_each_engine;
use tests::receiver::{Answer, Received, Receiver};
use tests::tls::Authority;

use crate::world::{PATIENCE, World, patch};

/// A setting that asks the receiver itself for tokens.
fn oauth2(receiver: &Receiver) -> Value {
    json!({
        "type": "oauth2", "token_url": receiver.url("/token"), "client_id": "tidings:1", "client_secret": "s3cret&",
        "scope": "hooks.write"
    })
}

fn granted(token: &str, seconds: u64) -> Answer {
    Answer::Json(
        200,
        json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds }),
    )
}

fn at<'a>(all: &'a [Received], path: &'a str) -> impl Iterator<Item = &'a Received> {
    all.iter().filter(move |request| request.path == path)
}

for_each_engine! {
    /// User name and password, then a token that does not change.
    async fn basic_and_bearer_are_sent(engine: Engine) {
        let world = World::start(engine).await?;
        let basic = json!({ "type": "basic", "username": "Aladdin", "password": "open sesame" });
        let endpoint = world.endpoint("/hook", &json!({ "authentication": basic })).await?;
        let webhook = world.webhook(&world.publish("a.b", &json!({})).await?).await?;
        webhook.verify(&endpoint.secret)?;
        // The example of RFC 7617.
        assert_eq!(webhook.header("authorization"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = json!({ "authentication": { "type": "bearer", "token": "mF_9.B5f-4.1JqM" } });
        patch(&world.api, &endpoint.path, &bearer).await?;
        let webhook = world.webhook(&world.publish("a.b", &json!({})).await?).await?;
        assert_eq!(webhook.header("authorization"), "Bearer mF_9.B5f-4.1JqM");
        patch(&world.api, &endpoint.path, &json!({ "authentication": null })).await?;
        let webhook = world.webhook(&world.publish("a.b", &json!({})).await?).await?;
        assert_eq!(webhook.header("authorization"), "");
        Ok(())
    }

    /// One token is asked for, whatever the number of events that need it at once, and asked for as RFC 6749 has it.
    async fn a_token_is_asked_for_once_and_kept(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/token", [granted("first", 3_600)]);
        world.endpoint("/hook", &json!({ "authentication": oauth2(&world.receiver) })).await?;
        let event = json!({ "type": "a.b", "data": {} });
        let many = json!({ "events": vec![event; 50] });
        world.api.post("/v1/events/bulk", &many).await?;
        let all = world.receiver.wait_until(PATIENCE, |all| at(all, "/hook").count() == 50).await?;
        assert!(at(&all, "/hook").all(|webhook| webhook.header("authorization") == "Bearer first"));
        let asked: Vec<_> = at(&all, "/token").collect();
        assert_eq!(asked.len(), 1);
        assert_eq!(&asked[0].body[..], b"grant_type=client_credentials&scope=hooks.write");
        assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
        // `tidings%3A1:s3cret%26`.
        assert_eq!(asked[0].header("authorization"), "Basic dGlkaW5ncyUzQTE6czNjcmV0JTI2");
        Ok(())
    }

    /// A token is replaced before it ends, and dropped when the receiver answers 401.
    async fn a_token_is_replaced_before_its_end_and_after_a_401(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/token", [granted("ends at once", 0), granted("refused", 3_600), granted("good", 3_600)]);
        world.receiver.script("/hook", [Answer::Status(200), Answer::Status(401), Answer::Status(200)]);
        let policy = json!({ "authentication": oauth2(&world.receiver), "retry_schedule": ["10ms"] });
        world.endpoint("/hook", &policy).await?;
        let first = world.publish("a.b", &json!({})).await?;
        assert_eq!(world.attempts(&first, "delivered").await?.len(), 1);
        let second = world.publish("a.b", &json!({})).await?;
        assert_eq!(world.attempts(&second, "delivered").await?.len(), 2);
        let all = world.receiver.received();
        let tokens: Vec<_> = at(&all, "/hook").map(|webhook| webhook.header("authorization")).collect();
        assert_eq!(tokens, ["Bearer ends at once", "Bearer refused", "Bearer good"]);
        assert_eq!(at(&all, "/token").count(), 3);
        Ok(())
    }

    /// Where no token can be had, the attempt says why, and the receiver is not asked.
    async fn a_refused_token_is_told_of(engine: Engine) {
        let world = World::start(engine).await?;
        world.receiver.script("/token", [Answer::Json(401, json!({ "error": "invalid_client", "hint": "<script>" }))]);
        let policy = json!({ "authentication": oauth2(&world.receiver), "retry_schedule": [] });
        world.endpoint("/hook", &policy).await?;
        let event = world.publish("a.b", &json!({})).await?;
        let attempts = world.attempts(&event, "dead").await?;
        assert_eq!(attempts[0]["error"], "authentication");
        assert_eq!(attempts[0]["detail"], "the token endpoint answered 401 (invalid_client)");
        assert_eq!(at(&world.receiver.received(), "/hook").count(), 0);
        Ok(())
    }

    /// A receiver that wants a client certificate gets it; without one nothing arrives; a key of another certificate is
    /// refused at once.
    async fn a_client_certificate_is_shown(engine: Engine) {
        let authority = Authority::new()?;
        let folder = tempfile::tempdir()?;
        let trusted = folder.path().join("authority.pem");
        std::fs::write(&trusted, authority.certificate())?;
        let trusted = trusted.to_str().expect("a plain path");
        let world = World::start_with(engine, &[("SSL_CERT_FILE", trusted)]).await?;
        let receiver = Receiver::start_tls(authority.server()?).await?;
        let (own, other) = (authority.issue(&["tidings"])?, authority.issue(&["tidings"])?);
        let mtls = |key: &str| json!({ "type": "mtls", "certificate": own.certificate, "key": key });

        let shown = json!({ "url": receiver.url("/shown"), "event_types": ["shown"], "authentication": mtls(&own.key) });
        let shown = world.endpoint("/", &shown).await?;
        let event = world.publish("shown", &json!({})).await?;
        world.attempts(&event, "delivered").await?;
        receiver.wait_for(1, PATIENCE).await?[0].verify(&shown.secret)?;

        let without = json!({ "url": receiver.url("/without"), "event_types": ["without"], "retry_schedule": [] });
        world.endpoint("/", &without).await?;
        let event = world.publish("without", &json!({})).await?;
        let attempts = world.attempts(&event, "dead").await?;
        // The receiver closes the connection behind its refusal, which may be lost by that.
        assert!(attempts[0]["error"] == "tls" || attempts[0]["error"] == "reset", "{attempts:?}");
        assert_eq!(receiver.received().len(), 1);

        for (certificate, key) in [(&own.certificate, &other.key), (&"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".to_owned(), &own.key)] {
            let new = json!({
                "url": receiver.url("/"), "event_types": ["*"],
                "authentication": { "type": "mtls", "certificate": certificate, "key": key }
            });
            let refused = world.api.post("/v1/endpoints", &new).await?;
            assert_eq!(refused.problem(422)?, "invalid_body");
            assert_eq!(refused.json()?["errors"][0]["path"], "authentication.certificate");
        }
        Ok(())
    }
}
