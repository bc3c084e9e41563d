//! Why a command, or a load, did not succeed.

use broker::{AppendError, Cause, ReadError};

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log could not be read; try again later.
    #[error("the log cannot be read")]
    Unavailable(#[source] Cause),
    /// The log holds something that this program must not fold: an operator has to look.
    #[error("the history of {subject} is damaged at sequence {sequence}: {reason}")]
    Damaged {
        /// The aggregate's subject.
        subject: String,
        /// The record.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The aggregate's id cannot be part of a log subject.
    #[error("this id cannot name an aggregate")]
    InvalidId(#[source] broker::InvalidSubject),
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// Why a command was not executed. `R` is the aggregate's own rejection.
#[derive(Debug, thiserror::Error)]
pub enum Error<R: std::error::Error> {
    /// The aggregate says no. Nothing happened.
    #[error(transparent)]
    Rejected(R),
    /// A value that must be unique belongs to another aggregate. Nothing happened.
    #[error("this {kind} is taken")]
    Taken {
        /// What must be unique, as `email`.
        kind: &'static str,
    },
    /// Others changed the aggregate each time this command was about to. Nothing happened; it can be sent again.
    #[error("the aggregate is changing too fast")]
    Contended,
    /// The command's events are larger than the log takes. Nothing happened.
    #[error("the events of this command take {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The size refused.
        bytes: usize,
        /// The size allowed.
        limit: usize,
    },
    /// More waits to be stored than this process takes. Nothing happened; it can be sent again a moment later.
    #[error("too much is waiting to be stored")]
    Busy,
    /// The log is away. Nothing happened.
    #[error("the log is unavailable")]
    Unavailable(#[source] Cause),
    /// The log did not say whether it stored the events: they happened, or will not have.
    #[error("the outcome is unknown")]
    Unknown(#[source] Cause),
    /// What the log holds cannot be folded, or what was decided cannot be written: an operator has to look.
    /// Nothing happened.
    #[error("the aggregate's history cannot be continued")]
    Damaged(#[source] Cause),
}

/// Which of two aggregates that decide together says no.
#[derive(Debug, thiserror::Error)]
pub enum Either<A, B> {
    /// The first.
    #[error(transparent)]
    First(A),
    /// The second.
    #[error(transparent)]
    Second(B),
}

impl<R: std::error::Error> From<LoadError> for Error<R> {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unavailable(cause) => Self::Unavailable(cause),
            LoadError::Damaged { .. } | LoadError::InvalidId(_) => Self::Damaged(Box::new(error)),
        }
    }
}

/// Why events were not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The aggregate, or a claim, is not as it was loaded: load again and decide again.
    #[error("something happened meanwhile")]
    Conflict,
    #[error("this {0} is taken")]
    Taken(&'static str),
    #[error("{bytes} bytes are more than the {limit} allowed")]
    TooLarge { bytes: usize, limit: usize },
    #[error("too much is waiting to be stored")]
    Busy,
    #[error("the log is unavailable")]
    Unavailable(#[source] Cause),
    #[error("the outcome is unknown")]
    Unknown(#[source] Cause),
    #[error("the events cannot be written")]
    Unwritable(#[source] Cause),
}

impl From<AppendError> for CommitError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict { .. } => Self::Conflict,
            AppendError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            AppendError::Busy => Self::Busy,
            AppendError::Unavailable(cause) => Self::Unavailable(cause),
            AppendError::Unknown(cause) => Self::Unknown(cause),
            AppendError::Malformed(_) => Self::Unwritable(Box::new(error)),
        }
    }
}

impl From<ReadError> for CommitError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
