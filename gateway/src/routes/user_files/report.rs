//! What an import answers: a line per row that was refused, a line now and then that tells how far it is, and a last
//! line that counts.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::problem::FieldError;

/// How many bytes go to the client at once.
const PIECE: usize = 4 * 1024;

/// How many pieces may wait for a client that sends all before it reads: 16 MiB.
const WAITING: usize = 4 * 1024;

/// How long a client may take none of them.
const PATIENCE: Duration = Duration::from_mins(1);

/// A row that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refused {
    /// Which row, from 1; the line of names does not count.
    pub(super) row: u64,
    /// The problem's code.
    #[schema(example = "email_taken")]
    pub(super) code: &'static str,
    /// The problem in words.
    pub(super) detail: String,
    /// What is wrong in which column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<FieldError>,
    /// The row's e-mail address, or how the row begins where it cannot be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) value: String,
}

/// How many rows there were, and what became of them.
#[derive(Debug, Default, Clone, Serialize, ToSchema)]
pub(super) struct Counts {
    /// All of them.
    pub(super) rows: u64,
    /// Users that are registered now; in a dry run, rows that nothing was found wrong with.
    pub(super) registered: u64,
    /// Rows that were refused.
    pub(super) refused: u64,
    /// Rows that an earlier import under the same `Idempotency-Key` had registered.
    pub(super) unchanged: u64,
}

/// How far the import is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Progress {
    /// So far.
    pub(super) progress: Counts,
}

/// The last line of an import that went through its file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Summary {
    /// What became of the rows.
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Where the last of the users stands, for `Tidings-At-Least`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<String>,
}

/// The last line of an import that could not go on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stopped {
    /// Why.
    pub(super) stopped: Refused,
    /// What became of the rows before.
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// The client has gone, or takes nothing any more.
#[derive(Debug)]
pub(super) struct Gone;

/// Where the lines are written.
#[derive(Debug)]
pub(super) struct Report {
    sender: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

/// A report, and the body in which it arrives.
pub(super) fn report() -> (Report, Body) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), receiver))
    });
    let report = Report {
        sender,
        piece: Vec::new(),
    };
    (report, Body::from_stream(pieces))
}

impl Report {
    /// Adds a line.
    pub(super) async fn line<T: Serialize>(&mut self, line: &T) -> Result<(), Gone> {
        serde_json::to_writer(&mut self.piece, line).map_err(|_| Gone)?;
        self.piece.push(b'\n');
        if self.piece.len() < PIECE {
            return Ok(());
        }
        self.flush().await
    }

    /// Sends what there is.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        if piece.is_empty() {
            return Ok(());
        }
        let sent = self.sender.send_timeout(piece, PATIENCE).await;
        sent.map_err(|_| Gone)
    }

    /// Waits until the client has gone.
    pub(super) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }
}
