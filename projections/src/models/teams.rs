//! Teams of a tenant and who belongs to them.
//!
//! All teams of a tenant are one aggregate, whose version stands in `team_trees`. A merge or a split reads and writes
//! its members as sets, however many it moves.

mod fold;
mod queries;

use async_trait::async_trait;
use domain::team::TeamsEvent;
use domain::{Source, TeamId, Timestamp, UserId};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::events::steps;
use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::sql::{number, optional_text, parsed, text, time};
use crate::table::{Column, Growth, Table};

pub use queries::{TeamFilter, Teams};

const NAME: &str = "teams";

static TREES: Table = Table {
    name: "team_trees",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::int("updated_at"),
        Column::int("version"),
    ],
    growth: Growth::Kept,
};

static TEAMS: Table = Table {
    name: "teams",
    key: 2,
    columns: &[
        Column::text("tenant"),
        Column::text("id"),
        Column::text("name"),
        Column::text("description"),
        Column::text("parent"),
        Column::int("created_at"),
        Column::int("updated_at"),
    ],
    growth: Growth::Kept,
};

static MEMBERS: Table = Table {
    name: "team_members",
    key: 3,
    columns: &[
        Column::text("tenant"),
        Column::text("team"),
        Column::text("user_id"),
        Column::text("role"),
        Column::int("since"),
    ],
    growth: Growth::Kept,
};

static FORMER_USERS: Table = Table {
    name: "team_former_users",
    key: 2,
    columns: &[Column::text("tenant"), Column::text("user_id")],
    growth: Growth::First,
};

/// The fold.
#[derive(Debug)]
pub(super) struct TeamsProjection;

#[async_trait]
impl Projection for TeamsProjection {
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
        const { &[&TREES, &TEAMS, &MEMBERS, &FORMER_USERS] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let steps = steps::<TeamsEvent>(batch, "teams", &TREES, rows).await?;
        fold::load(&steps, rows).await?;
        for (step, event) in steps {
            fold::count(&step, rows).await?;
            fold::apply(&step, event, rows).await?;
        }
        fold::forget_users(batch, rows);
        Ok(())
    }
}

/// A team as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TeamRow {
    /// Its id.
    pub id: TeamId,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The team it stands under.
    pub parent: Option<TeamId>,
    /// How many belong to it.
    pub members: u64,
    /// How many teams stand directly under it.
    pub children: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed, its members left aside.
    pub updated_at: Timestamp,
}

impl TeamRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let parent = optional_text(row, "parent")?.map(|_| parsed(row, "parent"));
        Ok(Self {
            id: parsed(row, "id")?,
            name: text(row, "name")?,
            description: optional_text(row, "description")?,
            parent: parent.transpose()?,
            members: number(row, "members")?,
            children: number(row, "children")?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}

/// A member of a team as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TeamMemberRow {
    /// Who.
    pub user: UserId,
    /// As what: `lead` or `member`.
    pub role: String,
    /// Since when.
    pub since: Timestamp,
}

impl TeamMemberRow {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            user: parsed(row, "user_id")?,
            role: text(row, "role")?,
            since: time(row, "since")?,
        })
    }
}
