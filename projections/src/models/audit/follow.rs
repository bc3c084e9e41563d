//! Following the audit trail in the order of the log: what comes after a place, without a gap and without a repetition.

use std::fmt;
use std::str::FromStr;

use domain::{Position, Source};

use super::search::SCAN;
use super::{Audit, AuditFilter, AuditRow, NAME, retention};
use crate::page::QueryError;
use crate::sql::{Statement, number};

/// A text that is no place of the trail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no place of the audit trail, such as e0-42.1 or e0-42")]
pub struct InvalidAuditPlace;

/// A place in the trail: after an entry, or after all entries of a record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPlace {
    /// The record.
    pub position: Position,
    /// The entry's version; none for the record's end.
    pub version: Option<u64>,
}

impl fmt::Display for AuditPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}.{version}", self.position),
            None => self.position.fmt(f),
        }
    }
}

impl FromStr for AuditPlace {
    type Err = InvalidAuditPlace;

    fn from_str(text: &str) -> Result<Self, InvalidAuditPlace> {
        let (position, version) = match text.split_once('.') {
            Some((position, version)) => (position, Some(version.parse().map_err(|_| InvalidAuditPlace)?)),
            None => (text, None),
        };
        let position: Position = position.parse().map_err(|_| InvalidAuditPlace)?;
        if position.source == Source::Events {
            Ok(Self { position, version })
        } else {
            Err(InvalidAuditPlace)
        }
    }
}

/// What followed a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// The entries, oldest first.
    pub rows: Vec<AuditRow>,
    /// Up to where everything was looked at: go on after it.
    pub reached: AuditPlace,
    /// Whether there may be more already.
    pub more: bool,
}

/// The order of the log.
const ORDER: &str = " ORDER BY shard, sequence, version LIMIT ";

impl Audit<'_> {
    /// Where the trail ends now.
    pub async fn end(&self) -> Result<AuditPlace, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let answer = query.answer(()).await?;
        Ok(end_of(&answer.positions))
    }

    /// The entries after a place that a filter wants, at most `limit`, in the order of the log.
    pub async fn after(
        &self,
        filter: &AuditFilter,
        after: AuditPlace,
        limit: usize,
    ) -> Result<Followed, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let oldest = retention::oldest_shown(&mut query, self.tenant).await?;
        let table = query.table(NAME);
        let begin = |columns: &str| {
            let mut select = Statement::new(format!("SELECT {columns} FROM {table} WHERE tenant = "));
            select.bind(self.tenant.as_str());
            select.push(" AND (shard, sequence, version) > ");
            bind_place(&mut select, after);
            select
        };
        let mut last = begin("shard, sequence, version");
        last.push(ORDER).bind(1_u64).push(" OFFSET ").bind(SCAN - 1);
        let scanned = query.rows(last).await?;
        let scanned = scanned.first().map(place).transpose()?;
        let mut select = begin("*");
        if let Some(scanned) = scanned {
            select.push(" AND (shard, sequence, version) <= ");
            bind_place(&mut select, scanned);
        }
        if let Some(oldest) = oldest {
            select.push(" AND at >= ").bind(oldest);
        }
        filter.wanted().all(&mut select, self.read_models.database.kind);
        select.push(ORDER).bind(limit as u64);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(AuditRow::read).collect::<Result<Vec<_>, _>>()?;
        // The rows and where their fold stands are of one moment: there is nothing before it that was not seen.
        let end = end_of(&query.answer(()).await?.positions);
        let last = rows.last().filter(|_| rows.len() >= limit).map(|row| AuditPlace {
            position: row.position,
            version: Some(row.version),
        });
        let more = last.is_some() || scanned.is_some();
        // A generation that was switched to may stand a little behind the one before it.
        let ahead = after.position.sequence > end.position.sequence;
        let reached = last.or(scanned).unwrap_or(if ahead { after } else { end });
        Ok(Followed { rows, reached, more })
    }
}

fn end_of(positions: &[Position]) -> AuditPlace {
    let start = Position {
        source: Source::Events,
        shard: 0,
        sequence: 0,
    };
    let end = positions
        .iter()
        .filter(|position| position.source == Source::Events)
        .max();
    AuditPlace {
        position: end.copied().unwrap_or(start),
        version: None,
    }
}

/// Appends the place as the values of a row.
fn bind_place(select: &mut Statement, place: AuditPlace) {
    let position = place.position;
    select.push("(").bind(position.shard).push(", ");
    select.bind(position.sequence).push(", ");
    select
        .bind(place.version.unwrap_or(i64::MAX.unsigned_abs()))
        .push(")");
}

fn place(row: &sqlx::any::AnyRow) -> Result<AuditPlace, sqlx::Error> {
    Ok(AuditPlace {
        position: Position {
            source: Source::Events,
            shard: number(row, "shard")?,
            sequence: number(row, "sequence")?,
        },
        version: Some(number(row, "version")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["e0-42", "e0-42.7", "e3-0"] {
            assert_eq!(text.parse::<AuditPlace>().unwrap().to_string(), text);
        }
        for text in ["", "42", "e0-42.", "e0-42.x", "m0-42", "e0-42.1.2"] {
            assert!(text.parse::<AuditPlace>().is_err(), "{text:?}");
        }
    }
}
