//! The HTTP client of these subcommands: answers as JSON, problems as failures that say what to do.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::Failure;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Calls a service as its administrator.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    /// For the service at this address.
    pub(crate) fn new(base: &str, key: &str) -> Result<Self, Failure> {
        delivery::install_crypto();
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .map_err(|error| {
                Failure::new(
                    format!("the HTTP client cannot start: {error}"),
                    "free some memory or files",
                )
            })?;
        Ok(Self {
            http,
            base: base.to_owned(),
            key: key.to_owned(),
        })
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// POST of a body, or of none.
    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.call(Method::POST, path, body).await
    }

    /// DELETE.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, None).await
    }

    /// Every row of a list, page by page.
    pub(crate) async fn all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        let mut address = path.to_owned();
        loop {
            let page = self.get(&address).await?;
            let data = page.get("data").and_then(Value::as_array);
            rows.extend(data.into_iter().flatten().cloned());
            let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) else {
                return Ok(rows);
            };
            let sign = if path.contains('?') { '&' } else { '?' };
            address = format!("{path}{sign}cursor={cursor}");
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.bearer_auth(&self.key).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let body: Value = serde_json::from_slice(&bytes).map_err(|_| self.stranger(status))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(self.refused(status, &body))
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let what = if error.is_timeout() {
            "does not answer"
        } else {
            "cannot be reached"
        };
        Failure::new(
            format!("the service at {} {what}", self.base),
            "start it with `tidings serve`, or name another address with --url",
        )
    }

    fn stranger(&self, status: StatusCode) -> Failure {
        Failure::new(
            format!("{} answered {status}, but not as Tidings does", self.base),
            "name the address of the API with --url",
        )
    }

    fn refused(&self, status: StatusCode, problem: &Value) -> Failure {
        let text = |field: &str| problem.get(field).and_then(Value::as_str);
        let Some(detail) = text("detail") else {
            return self.stranger(status);
        };
        let mut errors = vec![detail.to_owned()];
        for error in problem
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let part = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
            errors.push(format!("{}: {}", part("path"), part("message")));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let help = "set TIDINGS_ADMIN_KEY to the platform administrator's key of this service";
            return Failure::of(errors, help);
        }
        let page = text("type").unwrap_or_default();
        Failure::of(errors, format!("{}{page} tells more", self.base))
    }
}

/// An answer as what it should be.
pub(super) fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::new(
            format!("the service's answer is not understood: {error}"),
            "use the `tidings` of the same version as the service",
        )
    })
}
