//! Invitations of a tenant.
//!
//! The log says that an invitation expired only when its address was needed for another; what is pending and too late
//! counts as expired in every answer, by the time of the question.

use async_trait::async_trait;
use domain::invitation::{InvitationEvent, Status};
use domain::{InvitationId, RoleId, Source, TenantId, Timestamp, UserId};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::read_models::Keyset;
use crate::rows::Rows;
use crate::sql::{Statement, Value, json, number, optional_text, parsed, text, time, unreadable};
use crate::table::{Column, Growth, Table};

const NAME: &str = "invitations";

static TABLE: Table = Table {
    name: "invitations",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("email"),
        Column::text("name"),
        Column::text("roles"),
        Column::text("status"),
        Column::int("expires_at"),
        Column::int("sent"),
        Column::text("user_id"),
        Column::int("created_at"),
        Column::int("updated_at"),
        Column::int("version"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct InvitationsProjection;

#[async_trait]
impl Projection for InvitationsProjection {
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
        const { &[&TABLE] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for (step, event) in steps::<InvitationEvent>(batch, "invitation", &TABLE, rows).await? {
            fold(&step, event, rows).await?;
        }
        Ok(())
    }
}

async fn fold(step: &Step<'_>, event: InvitationEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let values = match event {
        InvitationEvent::Created {
            email,
            name,
            roles,
            expires_at,
            ..
        } => {
            let roles = serde_json::to_string(&roles).map_err(|error| step.poison(error.to_string()))?;
            let mut values = status(Status::Pending);
            values.extend([
                ("email", email.as_str().into()),
                ("name", name.map(String::from).into()),
                ("roles", roles.into()),
                ("expires_at", expires_at.into()),
                ("sent", 1_i64.into()),
                ("created_at", step.at().into()),
            ]);
            return step.create(rows, &TABLE, values).await;
        }
        InvitationEvent::Resent { expires_at, .. } => {
            let sent = TABLE.int(&step.before(rows, &TABLE).await?, "sent") + 1;
            vec![("expires_at", expires_at.into()), ("sent", sent.into())]
        }
        InvitationEvent::Accepted { user, .. } => {
            let mut values = status(Status::Accepted);
            values.push(("user_id", user.as_str().into()));
            values
        }
        InvitationEvent::Revoked { .. } => status(Status::Revoked),
        InvitationEvent::Expired { .. } => status(Status::Expired),
    };
    step.change(rows, &TABLE, values).await
}

fn status(status: Status) -> Vec<(&'static str, Value)> {
    vec![("status", status.as_str().into())]
}

/// An invitation as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InvitationRow {
    /// Its id.
    pub id: InvitationId,
    /// To whom.
    pub email: String,
    /// What they are called, as far as the inviter knew.
    pub name: Option<String>,
    /// The roles they will have, or have got.
    pub roles: Vec<RoleId>,
    /// What has become of it by the time of the question.
    pub status: Status,
    /// From when on it is, or was, too late.
    pub expires_at: Timestamp,
    /// How often it was sent.
    pub sent: u32,
    /// The user it made.
    pub user: Option<UserId>,
    /// When it was first sent.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl InvitationRow {
    fn read(row: &AnyRow, now: Timestamp) -> Result<Self, sqlx::Error> {
        let expires_at = time(row, "expires_at")?;
        let status = match status_of(&text(row, "status")?)? {
            Status::Pending if now >= expires_at => Status::Expired,
            status => status,
        };
        let user = optional_text(row, "user_id")?.map(|_| parsed(row, "user_id"));
        Ok(Self {
            id: parsed(row, "id")?,
            email: text(row, "email")?,
            name: optional_text(row, "name")?,
            roles: json(row, "roles")?,
            status,
            expires_at,
            sent: number(row, "sent")?,
            user: user.transpose()?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

fn status_of(name: &str) -> Result<Status, sqlx::Error> {
    [
        Status::Pending,
        Status::Accepted,
        Status::Revoked,
        Status::Expired,
    ]
    .into_iter()
    .find(|status| status.as_str() == name)
    .ok_or_else(|| unreadable("status", UnknownStatus))
}

#[derive(Debug, thiserror::Error)]
#[error("no invitation has such a status")]
struct UnknownStatus;

/// Which invitations are wanted, of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationFilter {
    /// Of this status at that time.
    pub status: Option<Status>,
    /// The time of the question.
    pub now: Timestamp,
}

impl InvitationFilter {
    fn narrow(&self, select: &mut Statement) {
        match self.status {
            None => {}
            Some(Status::Pending) => {
                select
                    .push(" AND status = 'pending' AND expires_at > ")
                    .bind(self.now);
            }
            Some(Status::Expired) => {
                select
                    .push(" AND status IN ('expired', 'pending') AND (status = 'expired' OR expires_at <= ")
                    .bind(self.now)
                    .push(")");
            }
            Some(status) => {
                select.push(" AND status = ").bind(status.as_str());
            }
        }
    }
}

/// Queries on a tenant's invitations.
#[derive(Debug, Clone, Copy)]
pub struct Invitations<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Invitations<'_> {
    /// The invitations, newest first.
    pub async fn list(
        &self,
        filter: &InvitationFilter,
        page: &Page,
    ) -> Result<Answer<Listing<InvitationRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new(format!(
            "SELECT * FROM {} WHERE tenant = ",
            query.table("invitations")
        ));
        select.bind(self.tenant.as_str());
        filter.narrow(&mut select);
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("id")],
            page,
        };
        query
            .list(keyset, |row| InvitationRow::read(row, filter.now))
            .await
    }

    /// One invitation, as it is at a time.
    pub async fn get(
        &self,
        id: &InvitationId,
        now: Timestamp,
    ) -> Result<Answer<Option<InvitationRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let invitations = query.table("invitations");
        let select = Statement::new(format!(
            "SELECT * FROM {invitations} WHERE tenant = $1 AND id = $2"
        ))
        .with(self.tenant.as_str())
        .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows
            .first()
            .map(|row| InvitationRow::read(row, now))
            .transpose()?;
        query.answer(found).await
    }
}
