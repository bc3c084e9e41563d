//! What each event makes of the tables.

use domain::team::{Membership, TeamRole, TeamsEvent};
use domain::{TeamId, UserId};

use super::{FORMER_USERS, MEMBERS, TEAMS, TREES};
use crate::events::Step;
use crate::projection::{ApplyError, Incoming};
use crate::rows::Rows;
use crate::sql::Value;
use crate::table::{Key, Row};

/// How users who are no more are told of.
const USER: (&str, &str) = ("user", "user.removed");

/// Reads the rows that the events name.
pub(super) async fn load(steps: &[(Step<'_>, TeamsEvent)], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let (mut teams, mut members) = (Vec::new(), Vec::new());
    for (step, event) in steps {
        match event {
            TeamsEvent::Created { team, .. }
            | TeamsEvent::Renamed { team, .. }
            | TeamsEvent::Described { team, .. }
            | TeamsEvent::Moved { team, .. }
            | TeamsEvent::Merged { team, .. }
            | TeamsEvent::Retired { team } => teams.push(team_key(step, team)),
            TeamsEvent::Split {
                team,
                new,
                members: moved,
                children,
                ..
            } => {
                teams.push(team_key(step, new));
                teams.extend(children.iter().map(|child| team_key(step, child)));
                for user in moved {
                    members.extend([team, new].map(|team| member_key(step, team, user)));
                }
            }
            TeamsEvent::MembersAdded { team, members: added } => {
                members.extend(added.iter().map(|member| member_key(step, team, &member.user)));
            }
            TeamsEvent::MemberRoleChanged { team, user, .. } => members.push(member_key(step, team, user)),
            TeamsEvent::MembersRemoved { team, users, .. } => {
                members.extend(users.iter().map(|user| member_key(step, team, user)));
            }
        }
    }
    rows.load(&TEAMS, teams).await?;
    Ok(rows.load(&MEMBERS, members).await?)
}

/// Moves the tree's version on by the event's one.
pub(super) async fn count(step: &Step<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    if step.version > 1 {
        step.pass(rows, &TREES).await
    } else {
        step.create(rows, &TREES, Vec::new()).await
    }
}

pub(super) async fn apply(step: &Step<'_>, event: TeamsEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    match event {
        TeamsEvent::Created {
            team,
            name,
            parent,
            description,
        } => {
            let description = description.map(String::from);
            insert(step, rows, &team, name.as_str(), parent, description).await
        }
        TeamsEvent::Renamed { team, to, .. } => set(step, rows, &team, "name", to.as_str().into()).await,
        TeamsEvent::Described {
            team, description, ..
        } => {
            let description = description.map(String::from);
            set(step, rows, &team, "description", description.into()).await
        }
        TeamsEvent::Moved { team, to, .. } => {
            set(step, rows, &team, "parent", to.map(String::from).into()).await
        }
        TeamsEvent::Merged { team, into } => merge(step, rows, &team, &into).await,
        TeamsEvent::Split { .. } => split(step, event, rows).await,
        TeamsEvent::MembersAdded { team, members } => add(step, rows, &team, members).await,
        TeamsEvent::MemberRoleChanged { team, user, to, .. } => {
            change_role(step, rows, (&team, &user), to).await
        }
        TeamsEvent::MembersRemoved { team, users, .. } => {
            for user in &users {
                rows.remove(&MEMBERS, member_key(step, &team, user));
            }
            Ok(())
        }
        TeamsEvent::Retired { team } => {
            leave(step, rows, &team).await?;
            remove(step, rows, &team).await
        }
    }
}

/// Notes users who are no more.
pub(super) fn forget_users(batch: &[Incoming], rows: &mut Rows<'_>) {
    let commits = batch
        .iter()
        .filter_map(Incoming::commit)
        .filter(|commit| commit.aggregate == USER.0);
    let gone = commits.filter(|commit| commit.events.iter().any(|event| event.event_type == USER.1));
    for commit in gone {
        let row = vec![commit.tenant.as_str().into(), commit.id.as_str().into()];
        rows.add(&FORMER_USERS, row);
    }
}

async fn insert(
    step: &Step<'_>,
    rows: &mut Rows<'_>,
    team: &TeamId,
    name: &str,
    parent: Option<TeamId>,
    description: Option<String>,
) -> Result<(), ApplyError> {
    if rows.get(&TEAMS, team_key(step, team)).await?.is_some() {
        return Err(step.poison(format!("there is a team {team} already")));
    }
    let values = vec![
        ("tenant", step.tenant().into()),
        ("id", team.as_str().into()),
        ("name", name.into()),
        ("description", description.into()),
        ("parent", parent.map(String::from).into()),
        ("created_at", step.at().into()),
        ("updated_at", step.at().into()),
    ];
    rows.put(&TEAMS, TEAMS.row(values));
    Ok(())
}

async fn add(
    step: &Step<'_>,
    rows: &mut Rows<'_>,
    team: &TeamId,
    members: Vec<Membership>,
) -> Result<(), ApplyError> {
    for Membership { user, role } in members {
        let values = vec![
            ("tenant", step.tenant().into()),
            ("team", team.as_str().into()),
            ("user_id", user.as_str().into()),
            ("role", role.as_str().into()),
            ("since", step.at().into()),
        ];
        enter(step, rows, MEMBERS.row(values)).await?;
    }
    Ok(())
}

/// Adds a member who must not belong to the team yet.
async fn enter(step: &Step<'_>, rows: &mut Rows<'_>, member: Row) -> Result<(), ApplyError> {
    if rows.get(&MEMBERS, MEMBERS.key_of(&member)).await?.is_some() {
        let (user, team) = (MEMBERS.text(&member, "user_id"), MEMBERS.text(&member, "team"));
        return Err(step.poison(format!("{user} belongs to {team} already")));
    }
    rows.put(&MEMBERS, member);
    Ok(())
}

async fn change_role(
    step: &Step<'_>,
    rows: &mut Rows<'_>,
    (team, user): (&TeamId, &UserId),
    to: TeamRole,
) -> Result<(), ApplyError> {
    let row = rows.get(&MEMBERS, member_key(step, team, user)).await?;
    let mut row = present(step, row, team)?;
    MEMBERS.set(&mut row, "role", to.as_str().into());
    rows.put(&MEMBERS, row);
    Ok(())
}

async fn merge(step: &Step<'_>, rows: &mut Rows<'_>, team: &TeamId, into: &TeamId) -> Result<(), ApplyError> {
    let mut moved = rows.under(&MEMBERS, team_key(step, team)).await?;
    for member in &mut moved {
        MEMBERS.set(member, "team", into.as_str().into());
    }
    let keys = moved.iter().map(|member| MEMBERS.key_of(member));
    rows.load(&MEMBERS, keys.collect::<Vec<_>>()).await?;
    for member in moved {
        let strongest = TeamRole::Lead.as_str();
        match rows.get(&MEMBERS, MEMBERS.key_of(&member)).await? {
            None => rows.put(&MEMBERS, member),
            Some(mut there) if MEMBERS.text(&member, "role") == strongest => {
                MEMBERS.set(&mut there, "role", strongest.into());
                rows.put(&MEMBERS, there);
            }
            Some(_) => {}
        }
    }
    leave(step, rows, team).await?;
    for child in rows.under(&TEAMS, vec![step.tenant().into()]).await? {
        if TEAMS.text(&child, "parent") == team.as_str() {
            adopt(step, rows, child, into);
        }
    }
    remove(step, rows, team).await
}

/// Nobody belongs to the team any more.
async fn leave(step: &Step<'_>, rows: &mut Rows<'_>, team: &TeamId) -> Result<(), ApplyError> {
    for member in rows.under(&MEMBERS, team_key(step, team)).await? {
        rows.remove(&MEMBERS, MEMBERS.key_of(&member));
    }
    Ok(())
}

async fn remove(step: &Step<'_>, rows: &mut Rows<'_>, team: &TeamId) -> Result<(), ApplyError> {
    let key = team_key(step, team);
    present(step, rows.get(&TEAMS, key.clone()).await?, team)?;
    rows.remove(&TEAMS, key);
    Ok(())
}

async fn split(step: &Step<'_>, event: TeamsEvent, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
    let TeamsEvent::Split {
        team,
        new,
        name,
        parent,
        members,
        children,
    } = event
    else {
        return Ok(());
    };
    insert(step, rows, &new, name.as_str(), parent, None).await?;
    take_members(step, rows, (&team, &new), &members).await?;
    take_children(step, rows, &new, &children).await
}

async fn take_members(
    step: &Step<'_>,
    rows: &mut Rows<'_>,
    (from, to): (&TeamId, &TeamId),
    users: &[UserId],
) -> Result<(), ApplyError> {
    for user in users {
        let key = member_key(step, from, user);
        if let Some(mut member) = rows.get(&MEMBERS, key.clone()).await? {
            rows.remove(&MEMBERS, key);
            MEMBERS.set(&mut member, "team", to.as_str().into());
            enter(step, rows, member).await?;
        }
    }
    Ok(())
}

async fn take_children(
    step: &Step<'_>,
    rows: &mut Rows<'_>,
    to: &TeamId,
    children: &[TeamId],
) -> Result<(), ApplyError> {
    for child in children {
        if let Some(child) = rows.get(&TEAMS, team_key(step, child)).await? {
            adopt(step, rows, child, to);
        }
    }
    Ok(())
}

/// Puts a team under another.
fn adopt(step: &Step<'_>, rows: &mut Rows<'_>, mut child: Row, to: &TeamId) {
    TEAMS.set(&mut child, "parent", to.as_str().into());
    TEAMS.set(&mut child, "updated_at", step.at().into());
    rows.put(&TEAMS, child);
}

async fn set(
    step: &Step<'_>,
    rows: &mut Rows<'_>,
    team: &TeamId,
    column: &'static str,
    to: Value,
) -> Result<(), ApplyError> {
    let row = rows.get(&TEAMS, team_key(step, team)).await?;
    let mut row = present(step, row, team)?;
    TEAMS.set(&mut row, "updated_at", step.at().into());
    TEAMS.set(&mut row, column, to);
    rows.put(&TEAMS, row);
    Ok(())
}

/// What names a team, and what the keys of its members begin with.
fn team_key(step: &Step<'_>, team: &TeamId) -> Key {
    vec![step.tenant().into(), team.as_str().into()]
}

fn member_key(step: &Step<'_>, team: &TeamId, user: &UserId) -> Key {
    let mut key = team_key(step, team);
    key.push(user.as_str().into());
    key
}

/// The row that an event changes, which must be there.
fn present(step: &Step<'_>, row: Option<Row>, team: &TeamId) -> Result<Row, ApplyError> {
    row.ok_or_else(|| step.poison(format!("it changes 0 rows of {team}, not one")))
}
