//! Tokens of OAuth 2.0 by client credentials (RFC 6749 §4.4): asked for once, kept until shortly before they end, and
//! dropped when a receiver answers 401.
//!
//! The server that gives them out is named by a tenant like a receiver, and is reached under the same rules.

use std::sync::Arc;
use std::time::Duration;

use domain::SecretId;
use moka::sync::Cache;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::classify::classify;
use super::proof::{TokenSource, basic, bearer};
use crate::egress::EgressPolicy;

/// For how many settings tokens are kept.
const KEPT: u64 = 10_000;
/// A setting that is not used for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// How long a token is used whose end is not told.
const UNTOLD: Duration = Duration::from_mins(5);
/// How long before its end a token is replaced, at most; of short ones a tenth of their time.
const EARLY: Duration = Duration::from_mins(1);
/// How long a refusal is believed: those that wait for the same token do not ask again one by one.
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// The most bytes of an answer that are read.
const READ: usize = 64 * 1024;

/// The tokens of this process.
#[derive(Debug, Clone)]
pub(super) struct Tokens(Cache<SecretId, Arc<Mutex<State>>>);

/// What is known of one setting's token. Who asks for it holds the lock, and all others wait.
#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    Good {
        value: HeaderValue,
        until: Instant,
    },
    Refused {
        why: String,
        until: Instant,
    },
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Tokens {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(KEPT)
            .time_to_idle(FORGOTTEN_AFTER)
            .build();
        Self(cache)
    }

    /// The value of the header `authorization`, or why there is none.
    pub(super) async fn get(
        &self,
        source: &TokenSource,
        client: &Client,
        egress: &EgressPolicy,
        user_agent: &str,
    ) -> Result<HeaderValue, String> {
        let kept = self.0.get_with(source.name.clone(), Arc::default);
        let mut state = kept.lock().await;
        let now = Instant::now();
        match &*state {
            State::Good { value, until } if now < *until => return Ok(value.clone()),
            State::Refused { why, until } if now < *until => return Err(why.clone()),
            _ => {}
        }
        match ask(source, client, egress, user_agent).await {
            Ok((value, lifetime)) => {
                let until = now + lifetime.saturating_sub(EARLY.min(lifetime / 10));
                *state = State::Good {
                    value: value.clone(),
                    until,
                };
                Ok(value)
            }
            Err(why) => {
                *state = State::Refused {
                    why: why.clone(),
                    until: Instant::now() + REFUSED_FOR,
                };
                Err(why)
            }
        }
    }

    /// The receiver did not take it: the next try asks for another, unless one has been asked for since.
    pub(super) async fn drop_refused(&self, source: &TokenSource, refused: &HeaderValue) {
        let Some(kept) = self.0.get(&source.name) else {
            return;
        };
        let mut state = kept.lock().await;
        if matches!(&*state, State::Good { value, .. } if value == refused) {
            *state = State::Unknown;
        }
    }
}

async fn ask(
    source: &TokenSource,
    client: &Client,
    egress: &EgressPolicy,
    user_agent: &str,
) -> Result<(HeaderValue, Duration), String> {
    egress
        .check_url(&source.url)
        .map_err(|forbidden| format!("no token can be asked for: {forbidden}"))?;
    // Both are encoded as forms are before they are joined (RFC 6749 §2.3.1).
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = Zeroizing::new(encoded(source.client_secret.reveal()));
    let authorization = basic(&encoded(&source.client_id), &secret)
        .map_err(|_| "the client's credentials cannot be written in a header".to_owned())?;
    let response = client
        .post(source.url.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, user_agent)
        .header(AUTHORIZATION, authorization)
        .body(form(source))
        .send()
        .await
        .map_err(|error| format!("no token could be asked for: {}", classify(&error).1))?;
    let status = response.status();
    let body = read(response).await?;
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    granted(&body)
}

fn form(source: &TokenSource) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &source.scope {
        form.append_pair("scope", scope);
    }
    form.finish()
}

async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut body = Zeroizing::new(Vec::new());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= READ => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err("the token endpoint's answer is too long".to_owned()),
            Ok(None) => return Ok(body),
            Err(error) => {
                return Err(format!(
                    "the token endpoint's answer broke off: {}",
                    classify(&error).1
                ));
            }
        }
    }
}

fn granted(body: &[u8]) -> Result<(HeaderValue, Duration), String> {
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| "the token endpoint's answer holds no access_token and token_type".to_owned())?;
    let token = Zeroizing::new(granted.access_token);
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err("the token endpoint gave a token of another type than Bearer".to_owned());
    }
    let value = bearer(&token).map_err(|_| "the token cannot be written in a header".to_owned())?;
    let lifetime = granted.expires_in.map_or(UNTOLD, Duration::from_secs);
    // Further away than any clock reaches is as good as never.
    Ok((value, lifetime.min(Duration::from_hours(24 * 365))))
}

/// The status, and the error's code where it is one (RFC 6749 §5.2): nothing else of the answer, which may be anything.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let code = serde_json::from_slice::<Refusal>(body)
        .ok()
        .map(|refusal| refusal.error);
    let code = code.filter(|code| {
        (1..=40).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    });
    let status = status.as_u16();
    match code {
        Some(code) => format!("the token endpoint answered {status} ({code})"),
        None => format!("the token endpoint answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_status_and_code_and_nothing_else() {
        let told = |body: &str| refusal(StatusCode::UNAUTHORIZED, body.as_bytes());
        assert_eq!(
            told(r#"{"error":"invalid_client"}"#),
            "the token endpoint answered 401 (invalid_client)"
        );
        for body in ["", "<html>", r#"{"error":"<script>"}"#, r#"{"error":7}"#] {
            assert_eq!(told(body), "the token endpoint answered 401");
        }
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        let (value, lifetime) =
            granted(br#"{"access_token":"abc","token_type":"bearer","expires_in":10}"#).unwrap();
        assert_eq!(
            (value.as_bytes(), lifetime),
            (&b"Bearer abc"[..], Duration::from_secs(10))
        );
        assert!(value.is_sensitive());
        for body in [
            "",
            "{}",
            r#"{"access_token":"abc"}"#,
            r#"{"access_token":"abc","token_type":"mac"}"#,
            r#"{"access_token":"a\nb","token_type":"bearer"}"#,
        ] {
            assert!(granted(body.as_bytes()).is_err(), "{body}");
        }
        let (_, lifetime) = granted(
            format!(
                r#"{{"access_token":"abc","token_type":"Bearer","expires_in":{}}}"#,
                u64::MAX
            )
            .as_bytes(),
        )
        .unwrap();
        assert_eq!(lifetime, Duration::from_hours(24 * 365));
    }
}
