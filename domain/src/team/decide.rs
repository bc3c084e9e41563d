//! What the teams decide: a function per command.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    MAX_DEPTH, MAX_MEMBERSHIPS, MAX_TEAMS, Membership, Team, TeamName, TeamRole, Teams, TeamsCommand,
    TeamsEvent, TeamsRejection,
};
use crate::{TeamId, UserId};

type Decision = Result<Vec<TeamsEvent>, TeamsRejection>;

pub(super) fn decide(teams: &Teams, command: TeamsCommand) -> Decision {
    match command {
        TeamsCommand::Create {
            id,
            name,
            parent,
            description,
            max_depth,
        } => {
            teams.can_have(&id)?;
            teams.has_parent(parent.as_ref())?;
            teams.is_free(&name, parent.as_ref(), None)?;
            is_shallow(teams.upwards(parent.as_ref()).count() + 1, max_depth)?;
            Ok(vec![TeamsEvent::Created {
                team: id,
                name,
                parent,
                description,
            }])
        }
        TeamsCommand::Change {
            id,
            name,
            description,
        } => change(teams, id, name, description),
        TeamsCommand::Move {
            id,
            parent,
            max_depth,
        } => relocate(teams, id, parent, max_depth),
        TeamsCommand::Merge { id, into, max_depth } => merge(teams, id, into, max_depth),
        TeamsCommand::Split {
            id,
            new,
            name,
            members,
            children,
        } => {
            let members = members.into_iter().collect();
            split(teams, id, new, name, members, children.into_iter().collect())
        }
        TeamsCommand::AddMembers { id, members } => add(teams, &id, members),
        TeamsCommand::RemoveMembers { id, users } => {
            let team = teams.get(&id)?;
            let users: BTreeSet<UserId> = users.into_iter().collect();
            if let Some(user) = users.iter().find(|user| !team.members.contains_key(*user)) {
                return Err(TeamsRejection::NotAMember { user: user.clone() });
            }
            let roles = users
                .iter()
                .filter_map(|user| Some((user, team.members.get(user)?)));
            let members = roles.map(|(user, role)| Membership {
                user: user.clone(),
                role: *role,
            });
            let (members, users) = (members.collect(), users.iter().cloned().collect());
            Ok(unless_empty(users, |users| TeamsEvent::MembersRemoved {
                team: id,
                users,
                members,
            }))
        }
        TeamsCommand::Retire { id, recursive } => {
            teams.get(&id)?;
            let gone = teams.below(&id);
            if gone.len() > 1 && !recursive {
                return Err(TeamsRejection::HasChildren);
            }
            let retired = |(team, _): (&TeamId, usize)| TeamsEvent::Retired { team: team.clone() };
            Ok(gone.into_iter().map(retired).collect())
        }
    }
}

#[expect(
    clippy::option_option,
    reason = "none to leave it, none inside to take it away"
)]
fn change(
    teams: &Teams,
    team: TeamId,
    name: Option<TeamName>,
    description: Option<Option<super::TeamDescription>>,
) -> Decision {
    let known = teams.get(&team)?;
    let mut events = Vec::new();
    if let Some(to) = name.filter(|to| *to != known.name) {
        teams.is_free(&to, known.parent.as_ref(), Some(&team))?;
        events.push(TeamsEvent::Renamed {
            team: team.clone(),
            from: known.name.clone(),
            to,
        });
    }
    if let Some(description) = description.filter(|to| known.description.as_ref() != Some(to)) {
        events.push(TeamsEvent::Described {
            team,
            description,
            from: known.description.clone(),
        });
    }
    Ok(events)
}

fn relocate(teams: &Teams, team: TeamId, to: Option<TeamId>, max_depth: usize) -> Decision {
    let known = teams.get(&team)?;
    teams.has_parent(to.as_ref())?;
    if known.parent == to {
        return Ok(Vec::new());
    }
    if teams.upwards(to.as_ref()).any(|above| *above == team) {
        return Err(TeamsRejection::Cycle);
    }
    teams.is_free(&known.name, to.as_ref(), None)?;
    is_shallow(
        teams.upwards(to.as_ref()).count() + teams.height(&team),
        max_depth,
    )?;
    let from = known.parent.clone();
    Ok(vec![TeamsEvent::Moved { team, from, to }])
}

fn merge(teams: &Teams, team: TeamId, into: TeamId, max_depth: usize) -> Decision {
    teams.get(&team)?;
    if !teams.contains(&into) {
        return Err(TeamsRejection::UnknownHeir { team: into });
    }
    if teams.upwards(Some(&into)).any(|above| *above == team) {
        return Err(TeamsRejection::Cycle);
    }
    let names: Vec<_> = teams
        .children(Some(&team))
        .filter(|(_, child)| teams.named(&child.name, Some(&into), Some(&team)).is_some())
        .map(|(_, child)| child.name.clone())
        .collect();
    if !names.is_empty() {
        return Err(TeamsRejection::ChildNamesTaken { names });
    }
    let height = teams.height(&team) - 1;
    if height > 0 {
        is_shallow(teams.upwards(Some(&into)).count() + height, max_depth)?;
    }
    Ok(vec![TeamsEvent::Merged { team, into }])
}

fn split(
    teams: &Teams,
    team: TeamId,
    new: TeamId,
    name: TeamName,
    members: BTreeSet<UserId>,
    children: BTreeSet<TeamId>,
) -> Decision {
    let known = teams.get(&team)?;
    teams.can_have(&new)?;
    teams.is_free(&name, known.parent.as_ref(), None)?;
    if let Some(user) = members.iter().find(|user| !known.members.contains_key(*user)) {
        return Err(TeamsRejection::NotAMember { user: user.clone() });
    }
    let is_child = |id: &TeamId| {
        teams
            .get(id)
            .is_ok_and(|child| child.parent.as_ref() == Some(&team))
    };
    if let Some(other) = children.iter().find(|id| !is_child(id)) {
        return Err(TeamsRejection::NotAChild { team: other.clone() });
    }
    Ok(vec![TeamsEvent::Split {
        parent: known.parent.clone(),
        team,
        new,
        name,
        members: members.into_iter().collect(),
        children: children.into_iter().collect(),
    }])
}

fn add(teams: &Teams, id: &TeamId, members: Vec<Membership>) -> Decision {
    let known = teams.get(id)?;
    let wanted: BTreeMap<UserId, TeamRole> = members
        .into_iter()
        .map(|member| (member.user, member.role))
        .collect();
    let (mut added, mut events) = (Vec::new(), Vec::new());
    for (user, role) in wanted {
        match known.members.get(&user).copied() {
            None => added.push(Membership { user, role }),
            Some(from) if from == role => {}
            Some(from) => events.push(TeamsEvent::MemberRoleChanged {
                team: id.clone(),
                user,
                from,
                to: role,
            }),
        }
    }
    if teams.memberships() + added.len() > MAX_MEMBERSHIPS {
        return Err(TeamsRejection::TooManyMemberships);
    }
    events.extend(unless_empty(added, |members| TeamsEvent::MembersAdded {
        team: id.clone(),
        members,
    }));
    Ok(events)
}

fn unless_empty<T>(items: Vec<T>, event: impl FnOnce(Vec<T>) -> TeamsEvent) -> Vec<TeamsEvent> {
    if items.is_empty() {
        Vec::new()
    } else {
        vec![event(items)]
    }
}

impl Teams {
    fn get(&self, id: &TeamId) -> Result<&Team, TeamsRejection> {
        self.teams.get(id).ok_or(TeamsRejection::NotFound)
    }

    fn can_have(&self, id: &TeamId) -> Result<(), TeamsRejection> {
        if self.teams.contains_key(id) {
            Err(TeamsRejection::AlreadyCreated)
        } else if self.teams.len() >= MAX_TEAMS {
            Err(TeamsRejection::TooManyTeams)
        } else {
            Ok(())
        }
    }

    fn has_parent(&self, id: Option<&TeamId>) -> Result<(), TeamsRejection> {
        match id {
            Some(id) if !self.teams.contains_key(id) => {
                Err(TeamsRejection::UnknownParent { team: id.clone() })
            }
            _ => Ok(()),
        }
    }

    fn is_free(
        &self,
        name: &TeamName,
        parent: Option<&TeamId>,
        except: Option<&TeamId>,
    ) -> Result<(), TeamsRejection> {
        match self.named(name, parent, except) {
            Some(by) => Err(TeamsRejection::NameTaken {
                name: name.clone(),
                by: by.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn is_shallow(depth: usize, max_depth: usize) -> Result<(), TeamsRejection> {
    let limit = max_depth.min(MAX_DEPTH);
    if depth > limit {
        Err(TeamsRejection::TooDeep { limit })
    } else {
        Ok(())
    }
}
