//! The demo's HTTP client: an ordinary client of the API.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::cli::Failure;

/// Calls the API under one key.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    /// For the service at a base URL.
    pub(crate) fn new(base: &str, key: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| {
                Failure::new(
                    format!("the HTTP client cannot start: {error}"),
                    "report this as a bug",
                )
            })?;
        Ok(Self {
            http,
            base: base.to_owned(),
            key: key.to_owned(),
        })
    }

    /// The same client under another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Sends a body and answers the response's; anything but 2xx is a failure.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        self.send("POST", path, request).await
    }

    /// Reads a resource from a read model that has reached a position.
    pub(crate) async fn get(&self, path: &str, at_least: Option<&str>) -> Result<Value, Failure> {
        let mut request = self.http.get(format!("{}{path}", self.base));
        if let Some(position) = at_least {
            request = request.header("tidings-at-least", position);
        }
        self.send("GET", path, request).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Value, Failure> {
        let failure = |what: String| {
            Failure::new(
                format!("{method} {path}: {what}"),
                "the service's log, above, may say more",
            )
        };
        let response = request
            .bearer_auth(&self.key)
            .send()
            .await
            .map_err(|error| failure(error.to_string()))?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .map_err(|error| failure(error.to_string()))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(failure(format!("{status} {body}")))
        }
    }
}
