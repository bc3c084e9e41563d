//! A client for the HTTP API that keeps answers whole: status, headers and body, whatever they are.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use reqwest::{Client, Method, redirect};
use serde_json::Value;

/// A client that takes no proxy from the environment and follows no redirect.
pub fn client() -> anyhow::Result<Client> {
    // Fails only if a provider is installed already, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    // A service that takes a long file slowly is not a dead one.
    let builder = Client::builder().no_proxy().tcp_user_timeout(None);
    let builder = builder.redirect(redirect::Policy::none());
    Ok(builder.timeout(Duration::from_secs(30)).build()?)
}

/// Calls to one service with one credential.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    key: Option<String>,
}

impl Api {
    /// Calls to `base` (`http://127.0.0.1:8080`) without a credential.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            client: client()?,
            base: base.to_owned(),
            key: None,
        })
    }

    /// The same with a key or token.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The credential it calls with.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.call(Method::GET, path, None, &[]).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.call(Method::POST, path, Some(body), &[]).await
    }

    /// Any call; headers given here come on top.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Reply> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::of(request)
            .await
            .with_context(|| format!("the call of {path}"))
    }

    /// Whether every read model is live and has all of the logs, which the administrator may ask.
    pub async fn read_models_stand(&self) -> anyhow::Result<bool> {
        let listed = self.get("/v1/projections").await?.expect(200)?;
        let rows = listed["data"].as_array().context("projections")?;
        let stands = |row: &Value| row["generation"].is_i64() && row["lag_records"] == 0;
        Ok(rows.iter().all(stands))
    }

    /// A request to be completed by the caller, whose body may be a stream.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// POST of these bytes as `application/json`, whether they are or not.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Reply> {
        let mut request = self.client.post(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let request = request
            .header("content-type", "application/json")
            .body(body.into());
        Reply::of(request)
            .await
            .with_context(|| format!("the call of {path}"))
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The whole answer to a request.
    pub async fn of(request: reqwest::RequestBuilder) -> anyhow::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self {
            status,
            headers,
            body: response.bytes().await?,
        })
    }

    /// A header as text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} with a body that is not JSON: {}", self.status, self.text()))
    }

    /// The JSON body of an answer that must have this status.
    pub fn expect(&self, status: u16) -> anyhow::Result<Value> {
        ensure!(
            self.status == status,
            "{status} was expected, {} came: {}",
            self.status,
            self.text()
        );
        self.json()
    }

    /// The `code` of a problem, which must have this status and the media type of problems (RFC 9457).
    pub fn problem(&self, status: u16) -> anyhow::Result<String> {
        let problem = self.expect(status)?;
        let media_type = self.header("content-type");
        ensure!(
            media_type.starts_with("application/problem+json"),
            "a problem as {media_type}: {problem}"
        );
        let code = problem["code"]
            .as_str()
            .with_context(|| format!("a problem without code: {problem}"))?;
        ensure!(
            problem["request_id"].is_string(),
            "a problem without request_id: {problem}"
        );
        Ok(code.to_owned())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
