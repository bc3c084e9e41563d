//! One HTTP try: the POST, its deadline, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use domain::{AttemptOutcome, ErrorClass, ResponseHead, Sent};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use crate::egress::{CheckedResolver, EgressPolicy};
use crate::sign::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP};

mod classify;
mod head;

use classify::classify;

/// How much of a response is read, in bytes; the rest is left on the line and the connection closed.
const READ: usize = 64 * 1024;
/// How much of it is kept, in bytes.
const KEPT: usize = 1024;

/// A signed message, ready to go.
#[derive(Debug)]
pub(crate) struct Post<'a> {
    pub(crate) url: &'a Url,
    pub(crate) id: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: i64,
    pub(crate) signature: &'a str,
    pub(crate) body: Vec<u8>,
}

/// What a try brought.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) outcome: AttemptOutcome,
    /// How long the receiver asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// The HTTP client: no proxy, no redirects, checked addresses, connections kept and shared.
#[derive(Debug, Clone)]
pub(crate) struct Poster {
    client: Client,
    egress: Arc<EgressPolicy>,
    timeout: Duration,
    user_agent: String,
}

impl Poster {
    pub(crate) fn new(
        egress: EgressPolicy,
        timeout: Duration,
        user_agent: &str,
    ) -> Result<Self, reqwest::Error> {
        install_crypto();
        let egress = Arc::new(egress);
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .dns_resolver(Arc::new(CheckedResolver(egress.clone())))
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .build()?;
        Ok(Self {
            client,
            egress,
            timeout,
            user_agent: user_agent.to_owned(),
        })
    }

    /// Posts, and waits for the whole answer, all within one deadline.
    pub(crate) async fn post(&self, post: Post<'_>) -> Tried {
        let started = Instant::now();
        let mut answer = Answer::default();
        let failure = match self.egress.check_url(post.url) {
            Err(forbidden) => Some((ErrorClass::Forbidden, forbidden.to_string())),
            Ok(()) => match tokio::time::timeout(self.timeout, self.exchange(post, &mut answer)).await {
                Ok(Ok(())) => answer.failure(),
                Ok(Err(error)) => Some(classify(&error)),
                Err(_) => Some((ErrorClass::Timeout, self.late(&answer))),
            },
        };
        let (error, detail) = failure.unzip();
        Tried {
            outcome: AttemptOutcome {
                status: answer.status.map(|status| status.as_u16()),
                error,
                detail,
                response_body: answer.text(),
                duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                response_head: answer.head,
                sent: answer.sent,
            },
            retry_after: answer.retry_after,
        }
    }

    /// Fills the answer as it comes, so that a deadline in the middle loses nothing of it.
    async fn exchange(&self, post: Post<'_>, answer: &mut Answer) -> Result<(), reqwest::Error> {
        let request = self
            .client
            .post(post.url.clone())
            // Said here and not left to the client, so that what is recorded is all that is sent.
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, self.user_agent.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_ID, post.id)
            .header(HEADER_TIMESTAMP, post.timestamp)
            .header(HEADER_SIGNATURE, post.signature)
            .body(post.body)
            .build()?;
        answer.sent = Some(head::sent(&request));
        let mut response = self.client.execute(request).await?;
        answer.begins(&response);
        let mut read = 0;
        while let Some(chunk) = response.chunk().await? {
            answer.keep(&chunk);
            read += chunk.len();
            if read >= READ {
                break;
            }
        }
        Ok(())
    }

    fn late(&self, answer: &Answer) -> String {
        let seconds = self.timeout.as_secs_f64();
        match answer.status {
            None => format!("no answer within {seconds} s"),
            Some(status) => format!("the answer ({status}) was not complete within {seconds} s"),
        }
    }
}

/// What was sent, and what has come of a response so far.
#[derive(Debug, Default)]
struct Answer {
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    head: Option<ResponseHead>,
    body: Vec<u8>,
    sent: Option<Sent>,
}

impl Answer {
    fn begins(&mut self, response: &Response) {
        self.status = Some(response.status());
        self.head = Some(head::received(response.headers()));
        self.retry_after = retry_after(response.headers(), SystemTime::now());
    }

    fn keep(&mut self, chunk: &[u8]) {
        let room = KEPT.saturating_sub(self.body.len()).min(chunk.len());
        self.body.extend_from_slice(&chunk[..room]);
    }

    fn text(&self) -> Option<String> {
        (!self.body.is_empty()).then(|| String::from_utf8_lossy(&self.body).into_owned())
    }

    /// A complete answer is a success only with a status of 2xx.
    fn failure(&self) -> Option<(ErrorClass, String)> {
        let status = self.status.filter(|status| !status.is_success())?;
        let redirect = if status.is_redirection() {
            "; redirects are not followed"
        } else {
            ""
        };
        let status = status.as_u16();
        Some((
            ErrorClass::Status,
            format!("the receiver answered {status}{redirect}"),
        ))
    }
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Makes *ring* the process's TLS cryptography; the HTTP client brings none of its own. Does nothing where the
/// process has chosen before.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been quicker: then one is installed, which is all that is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests;
