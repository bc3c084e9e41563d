//! Bodies of requests whose next piece must come within a time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

/// Ends a body whose next piece does not come: whoever reads it is told that it broke.
pub(crate) async fn bound_pieces(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let bounded = |body| {
        Body::new(Pieces {
            body,
            limit,
            waiting: None,
        })
    };
    next.run(request.map(bounded)).await
}

/// A body like the one within, of which it tells all that one tells: whether it has an end already, and its size.
struct Pieces {
    body: Body,
    limit: Duration,
    /// While somebody waits for a piece: until when.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = None;
            return Poll::Ready(frame);
        }
        let limit = this.limit;
        let waiting = this
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        let late = std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the next piece of the body did not come",
        );
        Poll::Ready(Some(Err(axum::Error::new(late))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    fn pieces(body: Body) -> Pieces {
        Pieces {
            body,
            limit: LIMIT,
            waiting: None,
        }
    }

    #[test]
    fn an_empty_body_is_known_to_be_empty_and_a_whole_one_tells_its_size() {
        assert!(pieces(Body::empty()).is_end_stream());
        assert_eq!(pieces(Body::from("four")).size_hint().exact(), Some(4));
    }

    #[tokio::test]
    async fn each_piece_has_its_own_time_and_one_that_does_not_come_breaks_the_body() {
        let piece = futures::stream::repeat(()).take(3).then(async |()| {
            tokio::time::sleep(LIMIT / 2).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let whole = pieces(Body::from_stream(piece)).collect().await;
        assert_eq!(whole.ok().map(|whole| whole.to_bytes().len()), Some(3));
        let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let broken = pieces(Body::from_stream(never)).collect().await;
        assert!(broken.is_err());
    }
}
