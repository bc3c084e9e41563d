//! Answers of the write side: successes with their position, failures as problems.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use commands::{Either, PublishError};
use domain::Position;
use domain::invitation::CLAIM;
use serde::Serialize;

use crate::consistency::with_positions;
use crate::problem::{Problem, ProblemType};

/// A change that is in the log, answered with where it stands in `Tidings-Position`.
#[derive(Debug)]
pub(crate) struct Written<T> {
    /// The status: 200, 201 or 202.
    pub(crate) status: StatusCode,
    /// Where it stands.
    pub(crate) positions: Vec<Position>,
    /// The body.
    pub(crate) body: T,
}

impl<T> Written<T> {
    /// Something has come into being.
    pub(crate) fn created(position: Position, body: T) -> Self {
        Self {
            status: StatusCode::CREATED,
            positions: vec![position],
            body,
        }
    }

    /// It is noted, and what follows from it happens later.
    pub(crate) fn accepted(positions: Vec<Position>, body: T) -> Self {
        Self {
            status: StatusCode::ACCEPTED,
            positions,
            body,
        }
    }
}

impl<T: Serialize> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        with_positions(
            (self.status, axum::Json(self.body)).into_response(),
            &self.positions,
        )
    }
}

/// A change that is in the log and leaves nothing to tell but its position.
#[derive(Debug)]
pub(crate) struct Done(pub(crate) Position);

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        with_positions(StatusCode::NO_CONTENT.into_response(), &[self.0])
    }
}

impl<R> From<commands::Error<R>> for Problem
where
    R: std::error::Error + Into<Problem> + 'static,
{
    fn from(error: commands::Error<R>) -> Self {
        match error {
            commands::Error::Rejected(rejection) => rejection.into(),
            commands::Error::Taken { kind: "email" } => Self::new(
                ProblemType::EmailTaken,
                "Another user of this tenant has this e-mail address.",
            ),
            commands::Error::Taken { kind: "slug" } => Self::new(
                ProblemType::SlugTaken,
                "Another tenant of this installation has this slug.",
            ),
            commands::Error::Taken { kind: CLAIM } => Self::new(
                ProblemType::AlreadyInvited,
                "An invitation to this address is pending: resend it, or revoke it first.",
            ),
            commands::Error::Taken { .. } | commands::Error::Contended => Self::new(
                ProblemType::Conflict,
                "Nothing was changed; send the request again.",
            ),
            commands::Error::TooLarge { limit, .. } => too_large(limit),
            commands::Error::Busy => overloaded(),
            commands::Error::Unavailable(_) => Self::unavailable(&error),
            commands::Error::Unknown(_) => outcome_unknown(&error),
            commands::Error::Damaged(_) => Self::caused(
                ProblemType::Internal,
                "The service cannot read what it needs; nothing was changed.",
                &error,
            ),
        }
    }
}

impl<A: Into<Problem>, B: Into<Problem>> From<Either<A, B>> for Problem {
    fn from(rejection: Either<A, B>) -> Self {
        match rejection {
            Either::First(rejection) => rejection.into(),
            Either::Second(rejection) => rejection.into(),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::IdReused(id) => Self::new(
                ProblemType::EventIdReused,
                format!("Another event was published under the id {id}; nothing was published now."),
            ),
            PublishError::TooLarge { limit, .. } => too_large(limit),
            PublishError::TooMany { limit } => {
                Self::invalid_body("events", format!("must hold at most {limit} events"))
            }
            PublishError::Busy => overloaded(),
            PublishError::Unavailable(_) => Self::unavailable(&error),
            PublishError::Unknown(_) => outcome_unknown(&error),
        }
    }
}

fn overloaded() -> Problem {
    Problem::new(
        ProblemType::Overloaded,
        "More is waiting to be stored than the service takes on; nothing was changed. Send the request again, with fewer in flight.",
    )
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ProblemType::TooLarge,
        format!("This may take at most {limit} bytes; nothing was changed."),
    )
}

fn outcome_unknown(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::caused(
        ProblemType::OutcomeUnknown,
        "The log did not say whether it stored the change; look before sending it again.",
        error,
    )
}
