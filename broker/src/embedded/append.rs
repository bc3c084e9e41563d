//! The appends of one group: decided in memory, written in a few statements.
//!
//! For each log two queries fetch what the decisions need (which message ids are known, which record is the last on
//! each subject with an expectation); then each append is decided in turn, on top of those before it; then all new
//! records go in, many to a statement.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;

use crate::backlog::Room;
use crate::{AppendError, Appended};

use super::units;
use super::writer::{AppendRequest, Failure, Head};

mod ledger;

use ledger::Ledger;
pub(super) use ledger::check_form;

/// The appends of one group.
pub(super) struct Batch {
    requests: Vec<AppendRequest>,
    outcomes: Vec<Outcome>,
    ledgers: Vec<Ledger>,
}

struct Outcome {
    result: Result<Vec<Appended>, AppendError>,
    reply: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    _room: Room,
}

impl Batch {
    pub(super) fn new(requests: Vec<AppendRequest>) -> Self {
        Self {
            outcomes: Vec::with_capacity(requests.len()),
            requests,
            ledgers: Vec::new(),
        }
    }

    /// Decides every append and writes the records of those that succeed.
    pub(super) async fn write(
        &mut self,
        connection: &mut SqliteConnection,
        heads: &[Head],
        inserts: &Inserts,
    ) -> Result<(), sqlx::Error> {
        for head in heads {
            let records = || self.requests.iter().filter(|request| request.log == head.number);
            if records().next().is_none() {
                continue;
            }
            let ids = known_ids(connection, head.number, records()).await?;
            let lasts = last_sequences(connection, head.number, records()).await?;
            self.ledgers.push(Ledger::new(head, ids, lasts));
        }
        let now = units::now();
        for request in std::mem::take(&mut self.requests) {
            let ledger = self
                .ledgers
                .iter_mut()
                .find(|ledger| ledger.number == request.log);
            let result = match ledger {
                Some(ledger) => ledger.decide(request.records, now),
                None => Err(AppendError::Unavailable(Box::new(Failure::Closed))),
            };
            self.outcomes.push(Outcome {
                result,
                reply: request.reply,
                _room: request.room,
            });
        }
        for ledger in &mut self.ledgers {
            inserts.write(connection, ledger).await?;
        }
        Ok(())
    }

    /// Moves the heads to where the logs now stand, and tells those who follow.
    pub(super) fn publish(&self, heads: &mut [Head]) {
        for ledger in &self.ledgers {
            if let Some(head) = heads.iter_mut().find(|head| head.number == ledger.number)
                && head.last != ledger.last
            {
                head.last = ledger.last;
                head.stored_at = ledger.stored_at;
                head.sender.send_replace(ledger.last);
            }
        }
    }

    /// Answers every append: what was decided, or that it failed.
    pub(super) fn answer(self, failure: Option<&Failure>) {
        let failed = |failure: &Failure| match failure {
            Failure::RolledBack(_) | Failure::Closed => AppendError::Unavailable(Box::new(failure.clone())),
            Failure::Uncertain(_) | Failure::Lost => AppendError::Unknown(Box::new(failure.clone())),
        };
        for outcome in self.outcomes {
            // A caller that has gone away needs no answer.
            drop(
                outcome
                    .reply
                    .send(failure.map_or(outcome.result, |failure| Err(failed(failure)))),
            );
        }
        for request in self.requests {
            if let Some(failure) = failure {
                drop(request.reply.send(Err(failed(failure))));
            }
        }
    }
}

/// The sequences of those message ids that the log holds.
async fn known_ids(
    connection: &mut SqliteConnection,
    log: i64,
    requests: impl Iterator<Item = &AppendRequest>,
) -> Result<HashMap<String, u64>, sqlx::Error> {
    let ids: Vec<&str> = requests
        .flat_map(|request| &request.records)
        .map(|record| record.message_id.as_str())
        .collect();
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT r.message_id, r.place FROM json_each(?) AS wanted
         CROSS JOIN records AS r ON r.log = ? AND r.message_id = wanted.value",
    )
    .bind(serde_json::to_string(&ids).map_err(|error| sqlx::Error::Encode(Box::new(error)))?)
    .bind(log)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, place)| (id, units::sequence(place)))
        .collect())
}

/// The last sequence on every subject that has one, of those with an expectation.
async fn last_sequences(
    connection: &mut SqliteConnection,
    log: i64,
    requests: impl Iterator<Item = &AppendRequest>,
) -> Result<HashMap<String, u64>, sqlx::Error> {
    let records = requests.flat_map(|request| &request.records);
    let subjects: Vec<&str> = records
        .filter(|record| record.expect.is_some())
        .map(|record| record.subject.as_str())
        .collect();
    if subjects.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, Option<i64>)> = sqlx::query_as(
        "SELECT value, (SELECT max(place) FROM records WHERE log = ? AND subject = value) FROM json_each(?)",
    )
    .bind(log)
    .bind(serde_json::to_string(&subjects).map_err(|error| sqlx::Error::Encode(Box::new(error)))?)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(subject, place)| Some((subject, units::sequence(place?))))
        .collect())
}

/// The statements that insert so many records at once, made once so that each stays prepared.
pub(super) struct Inserts {
    statements: Vec<(usize, Arc<String>)>,
}

impl Inserts {
    pub(super) fn new() -> Self {
        let statements = [64, 32, 16, 8, 4, 2, 1].map(|rows| {
            let values = vec!["(?, ?, ?, ?, ?, ?)"; rows].join(", ");
            let sql = format!(
                "INSERT INTO records (place, log, subject, message_id, stored_at, payload) VALUES {values}"
            );
            (rows, Arc::new(sql))
        });
        Self {
            statements: statements.into(),
        }
    }

    async fn write(&self, connection: &mut SqliteConnection, ledger: &Ledger) -> Result<(), sqlx::Error> {
        let mut rest = ledger.rows.as_slice();
        for (size, sql) in &self.statements {
            while rest.len() >= *size {
                let (rows, after) = rest.split_at(*size);
                rest = after;
                let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
                for row in rows {
                    query = query
                        .bind(units::place(ledger.number, row.sequence))
                        .bind(ledger.number)
                        .bind(row.record.subject.as_str())
                        .bind(row.record.message_id.as_str())
                        .bind(ledger.stored_at)
                        .bind(row.record.payload.as_ref());
                }
                query.execute(&mut *connection).await?;
            }
        }
        Ok(())
    }
}
