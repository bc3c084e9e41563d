//! What each event makes of the tables.

use domain::team::{Membership, TeamRole, TeamsEvent};
use domain::{TeamId, UserId};

use super::{FORMER_USERS, MEMBERS, TEAMS, TREES};
use crate::events::Step;
use crate::projection::{ApplyError, Incoming};
use crate::sql::{Statement, Value, Writer};

/// How users who are no more are told of.
const USER: (&str, &str) = ("user", "user.removed");

/// Moves the tree's version on by the event's one.
pub(super) async fn count(step: &Step<'_>, out: &mut Writer<'_>) -> Result<(), ApplyError> {
    if step.version > 1 {
        return step.pass(out, TREES).await;
    }
    let row = vec![
        step.tenant().into(),
        step.id().into(),
        step.at().into(),
        step.version.into(),
    ];
    step.create(out, TREES, &["tenant", "id", "updated_at", "version"], row)
        .await
}

pub(super) async fn apply(
    step: &Step<'_>,
    event: TeamsEvent,
    out: &mut Writer<'_>,
) -> Result<(), ApplyError> {
    match event {
        TeamsEvent::Created {
            team,
            name,
            parent,
            description,
        } => {
            let description = description.map(String::from);
            insert(step, out, &team, name.as_str(), parent.as_ref(), description).await
        }
        TeamsEvent::Renamed { team, to, .. } => set(step, out, &team, "name", to.as_str().into()).await,
        TeamsEvent::Described { team, description } => {
            set(
                step,
                out,
                &team,
                "description",
                description.map(String::from).into(),
            )
            .await
        }
        TeamsEvent::Moved { team, to, .. } => {
            set(step, out, &team, "parent", to.map(String::from).into()).await
        }
        TeamsEvent::Merged { team, into } => merge(step, out, &team, &into).await,
        TeamsEvent::Split {
            team,
            new,
            name,
            parent,
            members,
            children,
        } => {
            insert(step, out, &new, name.as_str(), parent.as_ref(), None).await?;
            take_members(step, out, (&team, &new), &members).await?;
            take_children(step, out, &new, &children).await
        }
        TeamsEvent::MembersAdded { team, members } => add(step, out, &team, members).await,
        TeamsEvent::MemberRoleChanged { team, user, to, .. } => {
            let mut update = Statement::new(format!("UPDATE {} SET role = ", out.table(MEMBERS)));
            update.bind(to.as_str());
            of_team(&mut update, step, "team", &team);
            update.push(" AND user_id = ").bind(user.as_str());
            one(step, out, update, &team).await
        }
        TeamsEvent::MembersRemoved { team, users } => {
            let mut delete = Statement::new(format!("DELETE FROM {}", out.table(MEMBERS)));
            of_team(&mut delete, step, "team", &team);
            among(&mut delete, "user_id", users.iter().map(UserId::as_str));
            out.execute(delete).await?;
            Ok(())
        }
        TeamsEvent::Retired { team } => {
            leave(step, out, &team).await?;
            remove(step, out, &team).await
        }
    }
}

/// Notes users who are no more.
pub(super) async fn forget_users(batch: &[Incoming], out: &mut Writer<'_>) -> Result<(), ApplyError> {
    let commits = batch
        .iter()
        .filter_map(Incoming::commit)
        .filter(|commit| commit.aggregate == USER.0);
    let gone = commits.filter(|commit| commit.events.iter().any(|event| event.event_type == USER.1));
    let rows = gone.map(|commit| vec![commit.tenant.as_str().into(), commit.id.as_str().into()]);
    let once = "ON CONFLICT (tenant, user_id) DO NOTHING";
    Ok(out
        .insert(FORMER_USERS, &["tenant", "user_id"], rows.collect(), once)
        .await?)
}

async fn insert(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    team: &TeamId,
    name: &str,
    parent: Option<&TeamId>,
    description: Option<String>,
) -> Result<(), ApplyError> {
    let columns = [
        "tenant",
        "id",
        "name",
        "description",
        "parent",
        "created_at",
        "updated_at",
    ];
    let row = vec![
        step.tenant().into(),
        team.as_str().into(),
        name.into(),
        description.into(),
        parent.map(|parent| parent.as_str().to_owned()).into(),
        step.at().into(),
        step.at().into(),
    ];
    Ok(out.insert(TEAMS, &columns, vec![row], "").await?)
}

async fn add(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    team: &TeamId,
    members: Vec<Membership>,
) -> Result<(), ApplyError> {
    let row = |member: Membership| {
        vec![
            step.tenant().into(),
            team.as_str().into(),
            member.user.as_str().into(),
            member.role.as_str().into(),
            step.at().into(),
        ]
    };
    let columns = ["tenant", "team", "user_id", "role", "since"];
    Ok(out
        .insert(MEMBERS, &columns, members.into_iter().map(row).collect(), "")
        .await?)
}

async fn merge(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    team: &TeamId,
    into: &TeamId,
) -> Result<(), ApplyError> {
    let members = out.table(MEMBERS);
    let mut copy = Statement::new(format!(
        "INSERT INTO {members} (tenant, team, user_id, role, since) SELECT tenant, "
    ));
    copy.bind(into.as_str())
        .push(&format!(", user_id, role, since FROM {members}"));
    of_team(&mut copy, step, "team", team);
    copy.push(&format!(
        " ON CONFLICT (tenant, team, user_id) DO UPDATE SET role = CASE WHEN excluded.role = '{strongest}' THEN \
         excluded.role ELSE {members}.role END",
        strongest = TeamRole::Lead,
    ));
    out.execute(copy).await?;
    leave(step, out, team).await?;
    let mut adopt = reparent(step, out, into);
    of_team(&mut adopt, step, "parent", team);
    out.execute(adopt).await?;
    remove(step, out, team).await
}

/// Nobody belongs to the team any more.
async fn leave(step: &Step<'_>, out: &mut Writer<'_>, team: &TeamId) -> Result<(), ApplyError> {
    let mut delete = Statement::new(format!("DELETE FROM {}", out.table(MEMBERS)));
    of_team(&mut delete, step, "team", team);
    out.execute(delete).await?;
    Ok(())
}

async fn remove(step: &Step<'_>, out: &mut Writer<'_>, team: &TeamId) -> Result<(), ApplyError> {
    let mut delete = Statement::new(format!("DELETE FROM {}", out.table(TEAMS)));
    of_team(&mut delete, step, "id", team);
    one(step, out, delete, team).await
}

async fn take_members(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    (from, to): (&TeamId, &TeamId),
    users: &[UserId],
) -> Result<(), ApplyError> {
    if users.is_empty() {
        return Ok(());
    }
    let mut update = Statement::new(format!("UPDATE {} SET team = ", out.table(MEMBERS)));
    update.bind(to.as_str());
    of_team(&mut update, step, "team", from);
    among(&mut update, "user_id", users.iter().map(UserId::as_str));
    out.execute(update).await?;
    Ok(())
}

async fn take_children(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    to: &TeamId,
    children: &[TeamId],
) -> Result<(), ApplyError> {
    if children.is_empty() {
        return Ok(());
    }
    let mut update = reparent(step, out, to);
    update.push(" WHERE tenant = ").bind(step.tenant());
    among(&mut update, "id", children.iter().map(TeamId::as_str));
    out.execute(update).await?;
    Ok(())
}

fn reparent(step: &Step<'_>, out: &Writer<'_>, to: &TeamId) -> Statement {
    let mut update = Statement::new(format!("UPDATE {} SET parent = ", out.table(TEAMS)));
    update.bind(to.as_str()).push(", updated_at = ").bind(step.at());
    update
}

async fn set(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    team: &TeamId,
    column: &'static str,
    to: Value,
) -> Result<(), ApplyError> {
    let mut update = Statement::new(format!("UPDATE {} SET updated_at = ", out.table(TEAMS)));
    update
        .bind(step.at())
        .push(", ")
        .push(column)
        .push(" = ")
        .bind(to);
    of_team(&mut update, step, "id", team);
    one(step, out, update, team).await
}

fn of_team(statement: &mut Statement, step: &Step<'_>, column: &str, team: &TeamId) {
    statement.push(" WHERE tenant = ").bind(step.tenant());
    statement
        .push(" AND ")
        .push(column)
        .push(" = ")
        .bind(team.as_str());
}

fn among<'i>(statement: &mut Statement, column: &str, ids: impl Iterator<Item = &'i str>) {
    statement.push(" AND ").push(column).push(" IN ");
    let mut separator = "(";
    for id in ids {
        statement.push(separator).bind(id);
        separator = ", ";
    }
    statement.push(")");
}

/// Runs what must change one row.
async fn one(
    step: &Step<'_>,
    out: &mut Writer<'_>,
    statement: Statement,
    team: &TeamId,
) -> Result<(), ApplyError> {
    match out.execute(statement).await? {
        1 => Ok(()),
        rows => Err(step.poison(format!("it changes {rows} rows of {team}, not one"))),
    }
}
