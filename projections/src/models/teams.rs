//! Teams of a tenant and who belongs to them.
//!
//! All teams of a tenant are one aggregate, whose version stands in `team_trees`. A merge or a split is a few
//! statements on sets of rows, however many members it moves.

mod fold;
mod queries;

use async_trait::async_trait;
use domain::team::TeamsEvent;
use domain::{Source, TeamId, Timestamp, UserId};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::events::steps;
use crate::projection::{ApplyError, Incoming, Projection};
use crate::sql::{Writer, number, optional_text, parsed, text, time};

pub use queries::{TeamFilter, Teams};

const NAME: &str = "teams";
const TREES: &str = "team_trees";
const TEAMS: &str = "teams";
const MEMBERS: &str = "team_members";
const FORMER_USERS: &str = "team_former_users";

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

    fn tables(&self) -> &'static [&'static str] {
        &[TREES, TEAMS, MEMBERS, FORMER_USERS]
    }

    async fn apply(&self, batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
        for step in steps::<TeamsEvent>(batch, "teams") {
            let (step, event) = step?;
            fold::count(&step, out).await?;
            fold::apply(&step, event, out).await?;
        }
        fold::forget_users(batch, out).await
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
