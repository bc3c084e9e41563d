//! Webhooks signed with ed25519, as a receiver sees them who knows the public keys only.

use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use reqwest::Method;
use serde_json::{Value, json};
use tests::for_each_engine;
use tests::http::Api;
use tests::receiver::{Received, Receiver};
use tests::service::Tidings;

use crate::world::{tenant, text};

const SOON: Duration = Duration::from_secs(30);

/// How many of a webhook's signatures one of these keys made.
fn fitting(webhook: &Received, keys: &[VerifyingKey]) -> anyhow::Result<usize> {
    let mut signed = format!(
        "{}.{}.",
        webhook.webhook_id(),
        webhook.header("webhook-timestamp")
    )
    .into_bytes();
    signed.extend_from_slice(&webhook.body);
    let mut fitting = 0;
    for signature in webhook.header("webhook-signature").split(' ') {
        let encoded = signature.strip_prefix("v1a,").context("another scheme")?;
        let signature = Signature::from_slice(&BASE64_STANDARD.decode(encoded)?)?;
        fitting += usize::from(
            keys.iter()
                .any(|key| key.verify_strict(&signed, &signature).is_ok()),
        );
    }
    Ok(fitting)
}

fn key(bytes: &[u8]) -> anyhow::Result<VerifyingKey> {
    Ok(VerifyingKey::from_bytes(bytes.try_into()?)?)
}

fn told(answer: &Value) -> anyhow::Result<VerifyingKey> {
    let encoded = text(answer, "public_key")?
        .strip_prefix("whpk_")
        .context("no whpk_")?;
    key(&BASE64_STANDARD.decode(encoded)?)
}

async fn published(anyone: &Api, jwks: &str) -> anyhow::Result<Vec<VerifyingKey>> {
    let reply = anyone.get(jwks).await?;
    let body = reply.expect(200)?;
    assert!(
        reply.header("cache-control").contains("max-age"),
        "{:?}",
        reply.headers
    );
    let mut keys = Vec::new();
    for jwk in body["keys"].as_array().context("keys")? {
        assert_eq!((&jwk["kty"], &jwk["crv"]), (&json!("OKP"), &json!("Ed25519")));
        assert_eq!((&jwk["alg"], &jwk["use"]), (&json!("EdDSA"), &json!("sig")));
        assert_eq!(text(jwk, "kid")?.len(), 43);
        keys.push(key(&BASE64_URL_SAFE_NO_PAD.decode(text(jwk, "x")?)?)?);
    }
    Ok(keys)
}

async fn next_webhook(api: &Api, receiver: &Receiver) -> anyhow::Result<Received> {
    let event = json!({ "type": "a.b", "data": { "n": 1.50 } });
    let published = api.post("/v1/events", &event).await?.expect(202)?;
    let id = text(&published, "id")?;
    let came = |all: &[Received]| all.iter().any(|webhook| webhook.webhook_id() == id);
    let all = receiver.wait_until(SOON, came).await?;
    let found = all.into_iter().rfind(|webhook| webhook.webhook_id() == id);
    found.context("it came")
}

for_each_engine! {
    /// The public key is told at creation and published without a credential; nothing secret is shown. While the key is
    /// rotated webhooks carry both signatures and both keys are published, afterwards one.
    async fn webhooks_are_signed_with_keys_whose_public_halves_are_published(engine: Engine) {
        let service = Tidings::start(engine).await?;
        let (api, anyone, receiver) = (tenant(&service, "acme").await?, service.anyone()?, Receiver::start().await?);
        let new = json!({ "url": receiver.url("/hook"), "event_types": ["*"], "signature": "ed25519" });
        let made = api.post("/v1/endpoints", &new).await?.expect(201)?;
        assert!(made.get("secret").is_none(), "{made}");
        let (first, jwks) = (told(&made)?, text(&made, "jwks")?.to_owned());
        assert_eq!(published(&anyone, &jwks).await?, [first]);
        let webhook = next_webhook(&api, &receiver).await?;
        assert_eq!(fitting(&webhook, &[first])?, 1);

        let path = format!("/v1/endpoints/{}", text(&made, "id")?);
        let rotate = format!("{path}/rotate-secret");
        let rotated = api.call(Method::POST, &rotate, None, &[]).await?.expect(200)?;
        let second = told(&rotated)?;
        assert!(rotated.get("secret").is_none() && second != first);
        assert_eq!(published(&anyone, &jwks).await?, [second, first]);
        let webhook = next_webhook(&api, &receiver).await?;
        assert_eq!(webhook.header("webhook-signature").split(' ').count(), 2);
        assert_eq!((fitting(&webhook, &[first])?, fitting(&webhook, &[second])?), (1, 1));

        let ended = api.post(&rotate, &json!({ "overlap_hours": 0 })).await?.expect(200)?;
        let third = told(&ended)?;
        assert_eq!(published(&anyone, &jwks).await?, [third]);
        let webhook = next_webhook(&api, &receiver).await?;
        assert_eq!((fitting(&webhook, &[first, second])?, fitting(&webhook, &[third])?), (0, 1));

        // Another scheme publishes nothing, and going back is possible: the key is the same.
        let hmac = api.call(Method::PATCH, &path, Some(&json!({ "signature": "hmac" })), &[]).await?;
        assert_eq!(hmac.status, 204);
        assert_eq!(published(&anyone, &jwks).await?, []);
        let webhook = next_webhook(&api, &receiver).await?;
        assert!(webhook.header("webhook-signature").starts_with("v1,"));
        let back = api.call(Method::PATCH, &path, Some(&json!({ "signature": "ed25519" })), &[]).await?;
        assert_eq!((back.status, published(&anyone, &jwks).await?), (204, vec![third]));

        assert_eq!(api.call(Method::DELETE, &path, None, &[]).await?.status, 204);
        assert_eq!(anyone.get(&jwks).await?.problem(404)?, "not_found");
        Ok(())
    }
}
