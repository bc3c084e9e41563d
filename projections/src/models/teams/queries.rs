//! Queries on a tenant's teams.

use domain::{TeamId, TenantId, UserId};

use super::{NAME, TeamMemberRow, TeamRow};
use crate::ReadModels;
use crate::page::{Answer, Listing, Page, QueryError};
use crate::read_models::{Keyset, Query};
use crate::sql::Statement;
use crate::table::Column;

/// The name of the list of members in cursors.
const MEMBER_LIST: &str = "team members";

/// A team with its counts; what selects follows.
fn team(query: &Query) -> Statement {
    let (teams, members) = (query.table("teams"), query.table("team_members"));
    let former = query.table("team_former_users");
    Statement::new(format!(
        "SELECT t.*, (SELECT COUNT(*) FROM {members} m WHERE m.tenant = t.tenant AND m.team = t.id AND NOT EXISTS \
         (SELECT 1 FROM {former} f WHERE f.tenant = m.tenant AND f.user_id = m.user_id)) AS members, \
         (SELECT COUNT(*) FROM {teams} c WHERE c.tenant = t.tenant AND c.parent = t.id) AS children \
         FROM {teams} t WHERE t.tenant = "
    ))
}

/// Which teams are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TeamFilter {
    /// Those directly under this team, or, where there is none inside, those under no other.
    pub parent: Option<Option<TeamId>>,
    /// Those that this user belongs to.
    pub member: Option<UserId>,
}

/// Queries on a tenant's teams.
#[derive(Debug, Clone, Copy)]
pub struct Teams<'a> {
    pub(crate) read_models: &'a ReadModels,
    pub(crate) tenant: &'a TenantId,
}

impl Teams<'_> {
    /// The teams, newest first.
    pub async fn list(
        &self,
        filter: &TeamFilter,
        page: &Page,
    ) -> Result<Answer<Listing<TeamRow>>, QueryError> {
        let query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = team(&query);
        select.bind(self.tenant.as_str());
        self.narrow(filter, &query, &mut select);
        let keyset = Keyset {
            list: NAME,
            select,
            order: &[Column::text("t.id")],
            page,
        };
        query.list(keyset, TeamRow::read).await
    }

    fn narrow(&self, filter: &TeamFilter, query: &Query, select: &mut Statement) {
        match &filter.parent {
            Some(Some(parent)) => {
                select.push(" AND t.parent = ").bind(parent.as_str());
            }
            Some(None) => {
                select.push(" AND t.parent IS NULL");
            }
            None => {}
        }
        if let Some(user) = &filter.member {
            let (members, former) = (query.table("team_members"), query.table("team_former_users"));
            select
                .push(&format!(
                    " AND t.id IN (SELECT team FROM {members} WHERE tenant = "
                ))
                .bind(self.tenant.as_str())
                .push(" AND user_id = ")
                .bind(user.as_str());
            select
                .push(&format!(
                    ") AND NOT EXISTS (SELECT 1 FROM {former} WHERE tenant = "
                ))
                .bind(self.tenant.as_str())
                .push(" AND user_id = ")
                .bind(user.as_str())
                .push(")");
        }
    }

    /// One team.
    pub async fn get(&self, id: &TeamId) -> Result<Answer<Option<TeamRow>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let mut select = team(&query);
        select
            .bind(self.tenant.as_str())
            .push(" AND t.id = ")
            .bind(id.as_str());
        let rows = query.rows(select).await?;
        let found = rows.first().map(TeamRow::read).transpose()?;
        query.answer(found).await
    }

    /// Who belongs to a team, by their ids, the newest user first; none where there is no such team.
    pub async fn members(
        &self,
        team: &TeamId,
        page: &Page,
    ) -> Result<Answer<Option<Listing<TeamMemberRow>>>, QueryError> {
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let teams = query.table("teams");
        let exists = Statement::new(format!(
            "SELECT 1 AS found FROM {teams} WHERE tenant = $1 AND id = $2"
        ))
        .with(self.tenant.as_str())
        .with(team.as_str());
        if query.rows(exists).await?.is_empty() {
            return query.answer(None).await;
        }
        let (members, former) = (query.table("team_members"), query.table("team_former_users"));
        let mut select = Statement::new(format!("SELECT * FROM {members} m WHERE m.tenant = "));
        select
            .bind(self.tenant.as_str())
            .push(" AND m.team = ")
            .bind(team.as_str());
        select.push(&format!(
            " AND NOT EXISTS (SELECT 1 FROM {former} f WHERE f.tenant = m.tenant AND f.user_id = m.user_id)",
        ));
        let keyset = Keyset {
            list: MEMBER_LIST,
            select,
            order: &[Column::text("m.user_id")],
            page,
        };
        let listing = query.page(keyset, TeamMemberRow::read).await?;
        query.answer(Some(listing)).await
    }
}
