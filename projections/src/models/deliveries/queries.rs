//! Queries on deliveries, attempts and dead letters.

use domain::{
    DeliveryId, EndpointId, ErrorClass, EventId, EventType, Position, ResponseHead, Source, TenantId,
    Timestamp,
};
use serde::Serialize;
use sqlx::any::AnyRow;

use super::{DeliveryStatus, NAME};
use crate::ReadModels;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::read_models::{Keyset, Query};
use crate::sql::{
    Statement, number, optional_int, optional_text, optional_time, parsed, text, time, unreadable,
};
use crate::table::Column;

/// A delivery as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeliveryRow {
    /// Its id.
    pub id: DeliveryId,
    /// Which message.
    pub event: EventId,
    /// The message's type.
    pub event_type: EventType,
    /// For which endpoint.
    pub endpoint: EndpointId,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// How often it was tried, in all runs.
    pub attempts: u64,
    /// Which run, from 1; another begins when it is redriven.
    pub run: u32,
    /// The response status of the last attempt, if a response came.
    pub last_status: Option<i64>,
    /// Why the last attempt failed, as one word.
    pub last_error: Option<String>,
    /// When it is due, while it is.
    pub next_due: Option<Timestamp>,
    /// When it came into being.
    pub created_at: Timestamp,
    /// When it arrived or died.
    pub completed_at: Option<Timestamp>,
    /// When the dead letter was given up for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discarded_at: Option<Timestamp>,
    /// Where its message stands in the log.
    pub position: Position,
}

impl DeliveryRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let (shard, sequence) = (number(row, "shard")?, number(row, "sequence")?);
        Ok(Self {
            id: parsed(row, "id")?,
            event: parsed(row, "event")?,
            event_type: parsed(row, "event_type")?,
            endpoint: parsed(row, "endpoint")?,
            status: parsed(row, "status")?,
            attempts: number(row, "attempts")?,
            run: number(row, "run")?,
            last_status: optional_int(row, "last_status")?,
            last_error: optional_text(row, "last_error")?,
            next_due: optional_time(row, "next_due")?,
            created_at: time(row, "created_at")?,
            completed_at: optional_time(row, "completed_at")?,
            discarded_at: optional_time(row, "discarded_at")?,
            position: Position {
                source: Source::Messages,
                shard,
                sequence,
            },
        })
    }
}

/// One HTTP try of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptRow {
    /// Which run, from 1.
    pub run: u32,
    /// Its number within the run, from 1.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// The response's status, if one came.
    pub status: Option<i64>,
    /// Why it failed, as one word; none for a success.
    pub error: Option<String>,
    /// The failure in words.
    pub detail: Option<String>,
    /// The beginning of the response body.
    pub response_body: Option<String>,
    /// From the start of the try to its end, in milliseconds.
    pub duration_ms: u64,
    /// The response's head, if one came and was kept.
    pub response_head: Option<ResponseHead>,
    /// Where its record stands in the delivery log.
    pub position: Position,
}

impl AttemptRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let head = optional_text(row, "response_head")?;
        let head = head.map(|head| serde_json::from_str(&head)).transpose();
        Ok(Self {
            response_head: head.map_err(|error| unreadable("response_head", error))?,
            position: Position {
                source: Source::Deliveries,
                shard: 0,
                sequence: number(row, "sequence")?,
            },
            run: number(row, "run")?,
            attempt: number(row, "attempt")?,
            at: time(row, "at")?,
            status: optional_int(row, "status")?,
            error: optional_text(row, "error")?,
            detail: optional_text(row, "detail")?,
            response_body: optional_text(row, "response_body")?,
            duration_ms: number(row, "duration_ms")?,
        })
    }
}

/// An endpoint that has dead letters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterEndpoint {
    /// Its id.
    pub endpoint: EndpointId,
    /// How many.
    pub dead_letters: u64,
}

/// Which deliveries are wanted; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this message.
    pub event: Option<EventId>,
    /// For this endpoint.
    pub endpoint: Option<EndpointId>,
    /// In this status.
    pub status: Option<DeliveryStatus>,
}

/// Which dead letters are wanted; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// For this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of messages of one of these types; none: of all.
    pub event_types: Vec<EventType>,
    /// Given up at this time or later.
    pub since: Option<Timestamp>,
    /// Given up before this time.
    pub until: Option<Timestamp>,
    /// Whose last attempt failed in one of these ways; none: in whichever.
    pub errors: Vec<ErrorClass>,
}

impl DeadLetterFilter {
    fn narrow(&self, select: &mut Statement) {
        select.push(" AND d.status = 'dead' AND d.discarded_at IS NULL");
        if let Some(endpoint) = &self.endpoint {
            select.push(" AND d.endpoint = ").bind(endpoint.as_str());
        }
        one_of(
            select,
            "d.event_type",
            self.event_types.iter().map(EventType::as_str),
        );
        one_of(
            select,
            "d.last_error",
            self.errors.iter().map(|error| error.as_str()),
        );
        if let Some(since) = self.since {
            select.push(" AND d.completed_at >= ").bind(since);
        }
        if let Some(until) = self.until {
            select.push(" AND d.completed_at < ").bind(until);
        }
    }
}

/// Narrows to rows with one of these values; none: to all.
fn one_of<'v>(select: &mut Statement, column: &str, values: impl Iterator<Item = &'v str>) {
    let mut before = format!(" AND {column} IN (");
    let mut any = false;
    for value in values {
        select.push(&before).bind(value);
        (before, any) = (", ".to_owned(), true);
    }
    if any {
        select.push(")");
    }
}

/// Queries on a tenant's deliveries.
#[derive(Debug, Clone, Copy)]
pub struct Deliveries<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Deliveries<'_> {
    /// The deliveries, those of the newest message first.
    pub async fn list(
        &self,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Answer<Listing<DeliveryRow>>, QueryError> {
        let narrow = |select: &mut Statement| {
            if let Some(event) = &filter.event {
                select.push(" AND d.event = ").bind(event.as_str());
            }
            if let Some(endpoint) = &filter.endpoint {
                select.push(" AND d.endpoint = ").bind(endpoint.as_str());
            }
            if let Some(status) = filter.status {
                select.push(" AND d.status = ").bind(status.as_str());
            }
        };
        self.page(narrow, NAME, page).await
    }

    /// The dead letters, those of the newest message first; discarded ones are no longer among them.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Answer<Listing<DeliveryRow>>, QueryError> {
        self.page(|select| filter.narrow(select), "dead-letters", page)
            .await
    }

    /// The endpoints that have such dead letters, in order of their ids.
    pub async fn dead_letter_endpoints(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Answer<Vec<DeadLetterEndpoint>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT d.endpoint, count(*) AS dead_letters FROM {} d WHERE d.tenant = ",
            query.table("deliveries")
        ));
        select.bind(self.tenant.as_str());
        filter.narrow(&mut select);
        select.push(" GROUP BY d.endpoint ORDER BY d.endpoint");
        let rows = query.rows(select).await?;
        let found = rows.iter().map(|row| {
            Ok(DeadLetterEndpoint {
                endpoint: parsed(row, "endpoint")?,
                dead_letters: number(row, "dead_letters")?,
            })
        });
        let found = found.collect::<Result<_, sqlx::Error>>()?;
        query.answer(found).await
    }

    /// One delivery.
    pub async fn get(&self, id: &DeliveryId) -> Result<Answer<Option<DeliveryRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = self.select(&query);
        select.push(" AND d.id = ").bind(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(DeliveryRow::read).transpose()?;
        query.answer(found).await
    }

    /// The attempts of a delivery, oldest first; none where there is no such delivery. At most 1,000, the newest.
    pub async fn attempts(&self, id: &DeliveryId) -> Result<Answer<Option<Vec<AttemptRow>>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut delivery = self.select(&query);
        delivery.push(" AND d.id = ").bind(id.as_str());
        if query.rows(delivery).await?.is_empty() {
            return query.answer(None).await;
        }
        let select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = $1 AND delivery = $2
             ORDER BY run DESC, attempt DESC, at DESC, try_id DESC LIMIT 1000",
            query.table("attempts")
        ))
        .with(self.tenant.as_str())
        .with(id.as_str());
        let rows = query.rows(select).await?;
        let attempts = rows
            .iter()
            .rev()
            .map(AttemptRow::read)
            .collect::<Result<_, _>>()?;
        query.answer(Some(attempts)).await
    }

    /// Counting the attempts at the query, and not along the fold, is right whatever comes twice.
    fn select(&self, query: &Query) -> Statement {
        let mut select = Statement::new(format!(
            "SELECT d.*, (SELECT count(*) FROM {} a WHERE a.tenant = d.tenant AND a.delivery = d.id) AS attempts
             FROM {} d WHERE d.tenant = ",
            query.table("attempts"),
            query.table("deliveries")
        ));
        select.bind(self.tenant.as_str());
        select
    }

    async fn page(
        &self,
        narrow: impl FnOnce(&mut Statement) + Send,
        list: &'static str,
        page: &Page,
    ) -> Result<Answer<Listing<DeliveryRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = self.select(&query);
        narrow(&mut select);
        let keyset = Keyset {
            list,
            select,
            order: &[
                Column::int("d.shard"),
                Column::int("d.sequence"),
                Column::text("d.id"),
            ],
            page,
        };
        query.list(keyset, DeliveryRow::read).await
    }
}

/// How many deliveries a tenant has in each status.
pub(in crate::models) async fn counts(
    query: &mut Query,
    tenant: &TenantId,
) -> Result<Vec<(String, u64)>, QueryError> {
    let select = Statement::new(format!(
        "SELECT status, deliveries FROM {} WHERE tenant = $1",
        query.table("delivery_counts")
    ))
    .with(tenant.as_str());
    let rows = query.rows(select).await?;
    Ok(rows
        .iter()
        .map(|row| Ok((text(row, "status")?, number(row, "deliveries")?)))
        .collect::<Result<_, sqlx::Error>>()?)
}
