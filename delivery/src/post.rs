//! One HTTP try: the request, its deadline, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use domain::{AttemptOutcome, ErrorClass, ResponseHead, Sent};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use url::Url;

use crate::egress::{CheckedResolver, EgressPolicy};

mod certificates;
mod classify;
mod head;
mod proof;
mod request;
mod tokens;

use certificates::Certificates;
pub use certificates::{InvalidCertificate, check_certificate};
use classify::classify;
pub(crate) use proof::{Proof, sensitive};
pub(crate) use request::{Request, Stamp, timeout};
use tokens::Tokens;

/// How much of a response is read, in bytes; the rest is left on the line and the connection closed.
const READ: usize = 64 * 1024;
/// How much of it is kept, in bytes.
const KEPT: usize = 1024;

/// What a try brought.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) outcome: AttemptOutcome,
    /// How long the receiver asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// Why a try failed, and in words.
type Failure = (ErrorClass, String);

/// The HTTP clients: no proxy, no redirects, checked addresses, connections kept and shared; tokens and certificates
/// with which endpoints are told who posts.
#[derive(Debug, Clone)]
pub(crate) struct Poster {
    client: Client,
    egress: Arc<EgressPolicy>,
    timeout: Duration,
    user_agent: String,
    tokens: Tokens,
    certificates: Certificates,
}

impl Poster {
    pub(crate) fn new(
        egress: EgressPolicy,
        timeout: Duration,
        user_agent: &str,
    ) -> Result<Self, reqwest::Error> {
        install_crypto();
        let egress = Arc::new(egress);
        let client = builder(&egress).build()?;
        Ok(Self {
            client,
            egress,
            timeout,
            user_agent: user_agent.to_owned(),
            tokens: Tokens::new(),
            certificates: Certificates::new(),
        })
    }

    /// Sends the request, and waits for the whole answer, all within one deadline: asking for a token, too.
    pub(crate) async fn post(&self, url: &Url, request: Request) -> Tried {
        let started = Instant::now();
        let timeout = request.timeout.unwrap_or(self.timeout);
        let mut answer = Answer::default();
        let failure = match self.egress.check_url(url) {
            Err(forbidden) => Some((ErrorClass::Forbidden, forbidden.to_string())),
            Ok(()) => match tokio::time::timeout(timeout, self.exchange(url, request, &mut answer)).await {
                Ok(Ok(())) => answer.failure(),
                Ok(Err(failure)) => Some(failure),
                Err(_) => Some((ErrorClass::Timeout, answer.late(timeout))),
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
                sent: answer.sent.map(Box::new),
            },
            retry_after: answer.retry_after,
        }
    }

    /// Fills the answer as it comes, so that a deadline in the middle loses nothing of it.
    async fn exchange(&self, url: &Url, request: Request, answer: &mut Answer) -> Result<(), Failure> {
        let client = match &request.proof {
            Proof::Certificate(certificate) => self
                .certificates
                .client(certificate, || builder(&self.egress))
                .map_err(|error| (ErrorClass::Authentication, error.to_string()))?,
            Proof::None | Proof::Header(_) | Proof::Token(_) => self.client.clone(),
        };
        let authorization = self.authorization(&request.proof, answer).await?;
        let mut headers = request.headers;
        if let Some(value) = &authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        // Said here and not left to the client, so that what is recorded is all that is sent.
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let outgoing = client
            .request(request.method, url.clone())
            .header(USER_AGENT, self.user_agent.as_str())
            .headers(headers)
            .body(request.body)
            .build()
            .map_err(|error| classify(&error))?;
        answer.sent = Some(head::sent(&outgoing));
        let mut response = client.execute(outgoing).await.map_err(|error| classify(&error))?;
        answer.begins(&response);
        if let (StatusCode::UNAUTHORIZED, Proof::Token(source), Some(token)) =
            (response.status(), &request.proof, &authorization)
        {
            self.tokens.drop_refused(source, token).await;
        }
        let mut read = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
            answer.keep(&chunk);
            read += chunk.len();
            if read >= READ {
                break;
            }
        }
        Ok(())
    }

    /// What the header `authorization` says, if there is one.
    async fn authorization(
        &self,
        proof: &Proof,
        answer: &mut Answer,
    ) -> Result<Option<HeaderValue>, Failure> {
        match proof {
            Proof::None | Proof::Certificate(_) => Ok(None),
            Proof::Header(value) => Ok(Some(value.clone())),
            Proof::Token(source) => {
                answer.awaits_token = true;
                let token = self
                    .tokens
                    .get(source, &self.client, &self.egress, &self.user_agent)
                    .await;
                answer.awaits_token = false;
                token.map(Some).map_err(|why| (ErrorClass::Authentication, why))
            }
        }
    }
}

fn builder(egress: &Arc<EgressPolicy>) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .dns_resolver(Arc::new(CheckedResolver(egress.clone())))
        .referer(false)
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(16)
        .http2_keep_alive_interval(Duration::from_secs(20))
}

/// What was sent, and what has come of a response so far.
#[derive(Debug, Default)]
struct Answer {
    /// The receiver has not been asked yet: the token is not there.
    awaits_token: bool,
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

    fn late(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs_f64();
        match self.status {
            None if self.awaits_token => format!("the token endpoint gave no token within {seconds} s"),
            None => format!("no answer within {seconds} s"),
            Some(status) => format!("the answer ({status}) was not complete within {seconds} s"),
        }
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
