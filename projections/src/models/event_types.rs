//! The event types a tenant has registered, and the versions of their schemas.

use async_trait::async_trait;
use domain::event_type::{EventTypeEvent, Schema};
use domain::{EventType, EventTypeId, Source, TenantId, Timestamp};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{Statement, Value, json, number, optional_text, parsed, time};
use crate::table::{Column, Growth, Table};

const NAME: &str = "event_types";
static TABLE: Table = Table {
    name: "event_types",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("name"),
        Column::text("description"),
        Column::int("deprecated"),
        Column::text("status"),
        Column::int("latest"),
        Column::text("json_schema"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
    ],
    growth: Growth::Kept,
};
static VERSIONS: Table = Table {
    name: "event_type_versions",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::int("number"),
        Column::text("json_schema"),
        Column::int("created_at"),
    ],
    growth: Growth::Added,
};

/// The fold.
#[derive(Debug)]
pub(super) struct EventTypesProjection;

#[async_trait]
impl Projection for EventTypesProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&TABLE, &VERSIONS] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for (step, event) in steps::<EventTypeEvent>(batch, "event_type", &TABLE, rows).await? {
            fold(&step, event, rows).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: EventTypeEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let changes = match event {
        EventTypeEvent::Registered {
            name,
            description,
            version,
            schema,
        } => {
            add(step, version, &schema, rows);
            let description = description.map(String::from);
            let mut columns = vec![
                ("description", description.into()),
                ("deprecated", 0_i64.into()),
                ("status", "registered".into()),
            ];
            columns.extend(latest(version, &schema));
            columns.push(("created_at", step.at().into()));
            if step.version == 1 {
                columns.push(("name", name.as_str().into()));
                return step.create(rows, &TABLE, columns).await;
            }
            // It was retired: it comes back as something new.
            columns
        }
        EventTypeEvent::VersionAdded { version, schema } => {
            add(step, version, &schema, rows);
            latest(version, &schema)
        }
        EventTypeEvent::Described { to, .. } => vec![("description", to.map(String::from).into())],
        EventTypeEvent::Deprecated {} => vec![("deprecated", 1_i64.into())],
        EventTypeEvent::Reinstated {} => vec![("deprecated", 0_i64.into())],
        EventTypeEvent::Retired {} => vec![("status", "retired".into())],
    };
    step.change(rows, &TABLE, changes).await
}

fn latest(version: u32, schema: &Schema) -> Vec<(&'static str, Value)> {
    vec![
        ("latest", version.into()),
        ("json_schema", schema.as_value().to_string().into()),
    ]
}

fn add(step: &Step<'_>, number: u32, schema: &Schema, rows: &mut Rows<'_>) {
    let values = vec![
        ("tenant", step.tenant().into()),
        ("id", step.id().into()),
        ("number", number.into()),
        ("json_schema", schema.as_value().to_string().into()),
        ("created_at", step.at().into()),
    ];
    rows.add(&VERSIONS, VERSIONS.row(values));
}

/// An event type as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventTypeRow {
    /// Its name.
    pub name: EventType,
    /// What people say about it.
    pub description: Option<String>,
    /// Whether people should go over to another type.
    pub deprecated: bool,
    /// The number of the latest schema.
    pub latest: u32,
    /// The latest schema.
    pub schema: serde_json::Value,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl EventTypeRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: parsed(row, "name")?,
            description: optional_text(row, "description")?,
            deprecated: number::<u8>(row, "deprecated")? == 1,
            latest: number(row, "latest")?,
            schema: json(row, "json_schema")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// One version of an event type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventTypeVersionRow {
    /// Its number.
    pub number: u32,
    /// The schema.
    pub schema: serde_json::Value,
    /// When it was added.
    pub created_at: Timestamp,
}

impl EventTypeVersionRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            number: number(row, "number")?,
            schema: json(row, "json_schema")?,
            created_at: time(row, "created_at")?,
        })
    }
}

/// Queries on a tenant's event types; those retired are not shown.
#[derive(Debug, Clone, Copy)]
pub struct EventTypes<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl EventTypes<'_> {
    /// The types, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<EventTypeRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE status = 'registered' AND tenant = ",
            query.table("event_types")
        ));
        select.bind(self.tenant.as_str());
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::int("created_at"), Column::text("id")],
            page,
        };
        query.list(keyset, EventTypeRow::read).await
    }

    /// One type.
    pub async fn get(&self, name: &EventType) -> Result<Answer<Option<EventTypeRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = $1 AND id = $2 AND status = 'registered'",
            query.table("event_types")
        ));
        let rows = query.rows(self.of(select, name)).await?;
        let found = rows.first().map(EventTypeRow::read).transpose()?;
        query.answer(found).await
    }

    /// One version of a type.
    pub async fn version(
        &self,
        name: &EventType,
        number: u32,
    ) -> Result<Answer<Option<EventTypeVersionRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new(format!(
            "SELECT v.number, v.json_schema, v.created_at FROM {} v
             JOIN {} t ON t.tenant = v.tenant AND t.id = v.id
             WHERE v.tenant = $1 AND v.id = $2 AND v.number = $3 AND t.status = 'registered'",
            query.table("event_type_versions"),
            query.table("event_types")
        ));
        let rows = query.rows(self.of(select, name).with(number)).await?;
        let found = rows.first().map(EventTypeVersionRow::read).transpose()?;
        query.answer(found).await
    }

    fn of(&self, statement: Statement, name: &EventType) -> Statement {
        statement
            .with(self.tenant.as_str())
            .with(EventTypeId::derive(name).as_str())
    }
}
