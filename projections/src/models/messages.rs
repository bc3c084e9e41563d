//! The messages a tenant has published: which there are, and where each stands in the log.
//!
//! What a message says is not copied here; whoever wants it reads the log at the position.

use async_trait::async_trait;
use domain::{EventId, EventType, Position, Source, TenantId, Timestamp};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Fact, Incoming, Portion, Projection, Share};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{Statement, number, parsed, time};
use crate::table::{Column, Growth, Table};

const NAME: &str = "messages";
/// An id used again after the log has forgotten it is the message it was first.
static TABLE: Table = Table {
    name: "messages",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("type"),
        Column::int("published_at"),
        Column::int("size"),
        Column::int("shard"),
        Column::int("sequence"),
    ],
    growth: Growth::First,
};

/// The fold.
#[derive(Debug)]
pub(super) struct MessagesProjection;

#[async_trait]
impl Projection for MessagesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Messages]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE] }
    }

    fn portions(&self, source: Source) -> Vec<Portion> {
        let of_record = Portion {
            table: &TABLE,
            rows: Share::ByRecord,
        };
        self.sources()
            .contains(&source)
            .then_some(of_record)
            .into_iter()
            .collect()
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for incoming in batch {
            let Fact::Message(message) = &incoming.fact else {
                continue;
            };
            let values = vec![
                ("tenant", incoming.tenant.as_str().into()),
                ("id", message.id.as_str().into()),
                ("type", message.event_type.as_str().into()),
                ("published_at", message.published_at.into()),
                ("size", (message.data.len() as u64).into()),
                ("shard", incoming.position.shard.into()),
                ("sequence", incoming.position.sequence.into()),
            ];
            rows.add(&TABLE, TABLE.row(values));
        }
        Ok(())
    }
}

/// A message as the API lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MessageRow {
    /// Its id.
    pub id: EventId,
    /// What it is about.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// Where it stands in the log of messages.
    pub position: Position,
    /// How long its data is, in bytes.
    pub size: u64,
}

impl MessageRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let (shard, sequence) = (number(row, "shard")?, number(row, "sequence")?);
        Ok(Self {
            id: parsed(row, "id")?,
            event_type: parsed(row, "type")?,
            published_at: time(row, "published_at")?,
            position: Position {
                source: Source::Messages,
                shard,
                sequence,
            },
            size: number(row, "size")?,
        })
    }
}

/// Which messages are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Of this type.
    pub event_type: Option<EventType>,
    /// Published at this time or later.
    pub since: Option<Timestamp>,
    /// Published before this time.
    pub until: Option<Timestamp>,
}

/// Queries on a tenant's messages.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Messages<'_> {
    /// The messages, newest first. An export reads page after page.
    pub async fn list(
        &self,
        filter: &MessageFilter,
        page: &Page,
    ) -> Result<Answer<Listing<MessageRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = ",
            query.table("messages")
        ));
        select.bind(self.tenant.as_str());
        if let Some(event_type) = &filter.event_type {
            select.push(" AND type = ").bind(event_type.as_str());
        }
        if let Some(since) = filter.since {
            select.push(" AND published_at >= ").bind(since);
        }
        if let Some(until) = filter.until {
            select.push(" AND published_at < ").bind(until);
        }
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::int("shard"), Column::int("sequence")],
            page,
        };
        query.list(keyset, MessageRow::read).await
    }

    /// One message.
    pub async fn get(&self, id: &EventId) -> Result<Answer<Option<MessageRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = $1 AND id = $2",
            query.table("messages")
        ))
        .with(self.tenant.as_str())
        .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(MessageRow::read).transpose()?;
        query.answer(found).await
    }
}
