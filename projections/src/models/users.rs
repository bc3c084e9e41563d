//! Users of a tenant.

use async_trait::async_trait;
use domain::user::UserEvent;
use domain::{Source, TenantId, Timestamp, UserId};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::ReadModels;
use crate::events::{Step, steps};
use crate::page::{Answer, Listing, Page, QueryError};
use crate::projection::{ApplyError, Incoming, Projection};
use crate::sql::{Statement, Writer, parsed, text, time};

const NAME: &str = "users";
const TABLE: &str = "users";

/// The fold.
#[derive(Debug)]
pub(super) struct UsersProjection;

#[async_trait]
impl Projection for UsersProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static str] {
        &[TABLE]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        for step in steps::<UserEvent>(batch, "user") {
            let (step, event) = step?;
            match event {
                UserEvent::Registered { email, name } => {
                    let columns = [
                        "tenant",
                        "id",
                        "email",
                        "name",
                        "created_at",
                        "updated_at",
                        "version",
                    ];
                    let row = vec![
                        step.tenant().into(),
                        step.id().into(),
                        email.as_str().into(),
                        name.as_str().into(),
                        step.at().into(),
                        step.at().into(),
                        step.version.into(),
                    ];
                    step.create(out, TABLE, &columns, row).await?;
                }
                UserEvent::EmailChanged { to, .. } => set(&step, out, "email", to.as_str()).await?,
                UserEvent::Renamed { to, .. } => set(&step, out, "name", to.as_str()).await?,
            }
        }
        Ok(())
    }
}

async fn set(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    column: &'static str,
    to: &str,
) -> Result<(), ApplyError> {
    step.change(out, TABLE, vec![(column, to.into())]).await
}

/// A user as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UserRow {
    /// Its id.
    pub id: UserId,
    /// The address as written.
    pub email: String,
    /// The display name.
    pub name: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl UserRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            email: text(row, "email")?,
            name: text(row, "name")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// Queries on a tenant's users.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Users<'_> {
    /// The users, newest first.
    pub async fn list(&self, page: &Page) -> Result<Answer<Listing<UserRow>>, QueryError> {
        let after: Option<String> = page.after(NAME)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = Statement::new("SELECT * FROM users WHERE tenant = ");
        select.bind(self.tenant.as_str());
        if let Some(after) = after {
            select.push(" AND id < ").bind(after);
        }
        select
            .push(" ORDER BY id DESC LIMIT ")
            .bind(page.size() as u64 + 1);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(UserRow::read).collect::<Result<_, _>>()?;
        query
            .answer(Listing::new(rows, page, NAME, |row: &UserRow| row.id.clone()))
            .await
    }

    /// One user.
    pub async fn get(&self, id: &UserId) -> Result<Answer<Option<UserRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let select = Statement::new("SELECT * FROM users WHERE tenant = $1 AND id = $2")
            .with(self.tenant.as_str())
            .with(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(UserRow::read).transpose()?;
        query.answer(found).await
    }
}
