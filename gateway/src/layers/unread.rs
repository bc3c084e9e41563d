//! Answers given before the request's body was read: to a wrong credential, an unknown address, a body too large.
//!
//! A connection on which a body was left unread can only be closed, and then the client may lose this very answer or
//! the next request on that connection. So the rest is read and thrown away before the answer goes out, within
//! limits; where it is beyond them, the answer says that the connection closes (RFC 9112, section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, EXPECT};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

/// The most bytes that are thrown away.
const MOST: u64 = 1024 * 1024;

/// How long they are waited for.
const LONGEST: Duration = Duration::from_secs(1);

/// Reads what was left unread, or says that the connection closes.
pub(crate) async fn discard_unread(request: Request, next: Next) -> Response {
    // Who waits for `100 Continue` has not sent the body yet, and shall not.
    let waits = request.headers().contains_key(EXPECT);
    let (give_back, mut given_back) = oneshot::channel();
    let request = request.map(|body| {
        Body::new(Lent {
            body: Some(body),
            give_back: Some(give_back),
        })
    });
    let mut response = next.run(request).await;
    if let Ok(rest) = given_back.try_recv() {
        let ended = !waits && tokio::time::timeout(LONGEST, discard(rest)).await == Ok(true);
        if !ended {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

/// Reads a body to its end; false if that is too far or it breaks.
async fn discard(mut body: Body) -> bool {
    let mut read = 0;
    while read + body.size_hint().lower() <= MOST {
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
        }
    }
    false
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Option<Body>,
    give_back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Some(give_back)) = (unread, self.give_back.take()) {
            // Nobody waits for it where the connection itself has ended.
            drop(give_back.send(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A connection to a service that refuses every request without reading its body.
    async fn connected() -> BufReader<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .fallback(async || StatusCode::UNAUTHORIZED)
            .layer(from_fn(discard_unread));
        tokio::spawn(axum::serve(listener, router).into_future());
        BufReader::new(TcpStream::connect(address).await.unwrap())
    }

    async fn head(connection: &mut BufReader<TcpStream>) -> String {
        let mut text = String::new();
        let read = async {
            while !text.ends_with("\r\n\r\n") {
                assert_ne!(
                    connection.read_line(&mut text).await.unwrap(),
                    0,
                    "closed after {text:?}"
                );
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_refused_body_does_not_cost_the_connection() {
        let mut connection = connected().await;
        for _ in 0..5 {
            let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n";
            connection.write_all(request).await.unwrap();
            connection.write_all(b"hello").await.unwrap();
            let head = head(&mut connection).await;
            assert!(
                head.starts_with("HTTP/1.1 401 ") && !head.contains("connection: close"),
                "{head}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_too_long_or_not_sent_yet_closes_the_connection() {
        for header in [
            "content-length: 1048577",
            "content-length: 5\r\nexpect: 100-continue",
        ] {
            let mut connection = connected().await;
            let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
            connection.write_all(request.as_bytes()).await.unwrap();
            let head = head(&mut connection).await;
            assert!(
                head.starts_with("HTTP/1.1 401 ") && head.contains("connection: close"),
                "{head}"
            );
        }
    }
}
