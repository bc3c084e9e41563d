//! The teams of a tenant: a tree of groups, and who belongs to each.
//!
//! All teams of a tenant are one aggregate, whose id is the tenant's: how deep the tree is, whether a move runs in a
//! circle, whether a name is free under a parent, what a merge or a split makes of it, all this can be judged only on
//! the whole tree at once, and the expectation of the append then keeps it true between processes.
//!
//! Rules:
//! * A team's name is its own among the teams under the same parent; upper and lower case count as the same. It is
//!   free again once the team is renamed, moved, merged or retired.
//! * No team stands below itself, and none deeper than the tenant allows; a team without parent has depth 1. Where
//!   the tenant allows less than before, what stands deeper stays.
//! * A user has one role in a team: [`TeamRole`]. Being added again with another role changes it.
//! * A team merged into another is no more: its members and children belong to the other, and whoever was in both
//!   keeps the stronger role.
//! * A team split off takes members, with their roles, and children along, and stands beside the team it comes from.
//! * A team with children is retired only together with all that is below it.
//! * A tenant has at most [`MAX_TEAMS`] teams and [`MAX_MEMBERSHIPS`] memberships, so that the tree stays one thing
//!   that can be loaded and judged as a whole.
//!
//! Whether a user exists is judged by whoever asks, before.

mod decide;
mod kept;
mod roster;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::aggregate::domain_event;
use crate::{Root, TeamId, Text, UserId};

use roster::Roster;

/// What a team is called.
pub type TeamName = Text<100>;
/// What a team is for.
pub type TeamDescription = Text<500>;

/// The most teams of a tenant.
pub const MAX_TEAMS: usize = 1_000;
/// The most memberships of a tenant, all its teams together.
pub const MAX_MEMBERSHIPS: usize = 20_000;
/// The deepest a tenant can let its tree become.
pub const MAX_DEPTH: usize = 20;
/// The most members that one command adds, removes or moves.
pub const MAX_MEMBERS_AT_ONCE: usize = 1_000;

/// What a user is in a team; the greater is the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeamRole {
    /// Belongs to it.
    Member,
    /// Leads it.
    Lead,
}

impl TeamRole {
    /// The role as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Lead => "lead",
        }
    }
}

impl fmt::Display for TeamRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A user and what it is in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: TeamRole,
}

/// The state of a tenant's teams.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Teams {
    #[serde(serialize_with = "kept::serialize")]
    teams: BTreeMap<TeamId, Team>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Team {
    name: TeamName,
    parent: Option<TeamId>,
    /// Shared between copies of the state: a command copies only the rosters it changes.
    #[serde(deserialize_with = "roster::deserialize")]
    members: Arc<Roster>,
    /// What it is for; none where that is not known any more, since a snapshot had no room for it.
    #[serde(default, deserialize_with = "kept::known")]
    #[expect(
        clippy::option_option,
        reason = "none where it is not known, none inside where there is none"
    )]
    description: Option<Option<TeamDescription>>,
}

/// What can be asked of a tenant's teams. `max_depth` is what the tenant allows, at most [`MAX_DEPTH`].
#[derive(Debug, Clone, PartialEq)]
pub enum TeamsCommand {
    /// Make a team.
    Create {
        /// Its id, drawn by the caller.
        id: TeamId,
        /// What it is called.
        name: TeamName,
        /// The team it stands under.
        parent: Option<TeamId>,
        /// What it is for.
        description: Option<TeamDescription>,
        /// How deep the tree may be.
        max_depth: usize,
    },
    /// Change what is given, leave what is not.
    Change {
        /// Which team.
        id: TeamId,
        /// The new name.
        name: Option<TeamName>,
        /// The new description, or none.
        description: Option<Option<TeamDescription>>,
    },
    /// Put a team, with all that is below it, under another, or under none.
    Move {
        /// Which team.
        id: TeamId,
        /// The team it shall stand under.
        parent: Option<TeamId>,
        /// How deep the tree may be.
        max_depth: usize,
    },
    /// Let a team become part of another.
    Merge {
        /// The team that will be no more.
        id: TeamId,
        /// The team that takes its members and children.
        into: TeamId,
        /// How deep the tree may be.
        max_depth: usize,
    },
    /// Make a team of some of the members and children of another, beside it.
    Split {
        /// The team they come from.
        id: TeamId,
        /// The new team's id, drawn by the caller.
        new: TeamId,
        /// What it is called.
        name: TeamName,
        /// The members it takes.
        members: Vec<UserId>,
        /// The children it takes.
        children: Vec<TeamId>,
    },
    /// Let users belong to a team, in these roles; of several roles for one user the last counts.
    AddMembers {
        /// Which team.
        id: TeamId,
        /// Who, as what.
        members: Vec<Membership>,
    },
    /// Let users no longer belong to a team.
    RemoveMembers {
        /// Which team.
        id: TeamId,
        /// Who.
        users: Vec<UserId>,
    },
    /// End a team for ever.
    Retire {
        /// Which team.
        id: TeamId,
        /// Together with all that is below it.
        recursive: bool,
    },
}

/// What has happened to a team. Each event names it as `team`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum TeamsEvent {
    /// It came into being.
    #[serde(rename = "team.created")]
    Created {
        /// Its id.
        team: TeamId,
        /// What it is called.
        name: TeamName,
        /// The team it stands under.
        parent: Option<TeamId>,
        /// What it is for.
        description: Option<TeamDescription>,
    },
    /// Its name changed.
    #[serde(rename = "team.renamed")]
    Renamed {
        /// Which team.
        team: TeamId,
        /// The old name.
        from: TeamName,
        /// The new one.
        to: TeamName,
    },
    /// It was told what it is for.
    #[serde(rename = "team.described")]
    Described {
        /// Which team.
        team: TeamId,
        /// What it is for now.
        description: Option<TeamDescription>,
        /// What it was for; not there where that was not known any more.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "kept::known"
        )]
        from: Option<Option<TeamDescription>>,
    },
    /// It stands elsewhere.
    #[serde(rename = "team.moved")]
    Moved {
        /// Which team.
        team: TeamId,
        /// The team it stood under.
        from: Option<TeamId>,
        /// The team it stands under now.
        to: Option<TeamId>,
    },
    /// It became part of another and is no more: its members and children are the other's, the stronger role stays.
    #[serde(rename = "team.merged")]
    Merged {
        /// Which team.
        team: TeamId,
        /// What it became part of.
        into: TeamId,
    },
    /// A part of it became a team of its own, which stands beside it.
    #[serde(rename = "team.split")]
    Split {
        /// Which team.
        team: TeamId,
        /// The new team's id.
        new: TeamId,
        /// What it is called.
        name: TeamName,
        /// The team both stand under.
        parent: Option<TeamId>,
        /// The members it took, who keep their roles.
        members: Vec<UserId>,
        /// The children it took.
        children: Vec<TeamId>,
    },
    /// Users belong to it who did not before.
    #[serde(rename = "team.members_added")]
    MembersAdded {
        /// Which team.
        team: TeamId,
        /// Who, as what.
        members: Vec<Membership>,
    },
    /// A member has another role.
    #[serde(rename = "team.member_role_changed")]
    MemberRoleChanged {
        /// Which team.
        team: TeamId,
        /// Who.
        user: UserId,
        /// The old role.
        from: TeamRole,
        /// The new one.
        to: TeamRole,
    },
    /// Users no longer belong to it.
    #[serde(rename = "team.members_removed")]
    MembersRemoved {
        /// Which team.
        team: TeamId,
        /// Who.
        users: Vec<UserId>,
        /// The same, with what they were; events of earlier programs do not say.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        members: Vec<Membership>,
    },
    /// It is no more, and nobody belongs to it.
    #[serde(rename = "team.retired")]
    Retired {
        /// Which team.
        team: TeamId,
    },
}

domain_event!(TeamsEvent {
    Created => ("team.created", 1),
    Renamed => ("team.renamed", 1),
    Described => ("team.described", 2, since 1),
    Moved => ("team.moved", 1),
    Merged => ("team.merged", 1),
    Split => ("team.split", 1),
    MembersAdded => ("team.members_added", 1),
    MemberRoleChanged => ("team.member_role_changed", 1),
    MembersRemoved => ("team.members_removed", 1),
    Retired => ("team.retired", 1),
});

/// Why a tenant's teams say no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TeamsRejection {
    /// There is a team of this id.
    #[error("the team is there already")]
    AlreadyCreated,
    /// There is none, or it is no more.
    #[error("there is no such team")]
    NotFound,
    /// The team to stand under is not there.
    #[error("there is no team {team} to stand under")]
    UnknownParent {
        /// Which one.
        team: TeamId,
    },
    /// The team to become part of is not there.
    #[error("there is no team {team} to become part of")]
    UnknownHeir {
        /// Which one.
        team: TeamId,
    },
    /// A team under the same parent has the name.
    #[error("the team {by} has the name {name} under the same parent")]
    NameTaken {
        /// The name.
        name: TeamName,
        /// Which team has it.
        by: TeamId,
    },
    /// Children of the two teams to merge have the same names.
    #[error("both teams have a child of the same name")]
    ChildNamesTaken {
        /// The names.
        names: Vec<TeamName>,
    },
    /// The team would stand below itself.
    #[error("the team would stand below itself")]
    Cycle,
    /// The tree would be too deep.
    #[error("teams can stand at most {limit} deep")]
    TooDeep {
        /// What the tenant allows.
        limit: usize,
    },
    /// The user does not belong to the team.
    #[error("the user {user} is no member of the team")]
    NotAMember {
        /// Who.
        user: UserId,
    },
    /// The team does not stand directly under the one to split.
    #[error("the team {team} is no child of the team")]
    NotAChild {
        /// Which one.
        team: TeamId,
    },
    /// There are teams below it.
    #[error("there are teams below the team")]
    HasChildren,
    /// The tenant would have too many teams.
    #[error("a tenant can have at most {MAX_TEAMS} teams")]
    TooManyTeams,
    /// The tenant would have too many memberships.
    #[error("the teams of a tenant can have at most {MAX_MEMBERSHIPS} memberships together")]
    TooManyMemberships,
}

impl cqrs_es::Aggregate for Teams {
    const TYPE: &'static str = "teams";
    type Command = TeamsCommand;
    type Event = TeamsEvent;
    type Error = TeamsRejection;
    type Services = ();

    async fn handle(
        &mut self,
        command: TeamsCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), TeamsRejection> {
        for event in decide::decide(self, command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: TeamsEvent) {
        match event {
            TeamsEvent::Created {
                team,
                name,
                parent,
                description,
            } => self.insert(team, name, parent, description),
            TeamsEvent::Renamed { team, to, .. } => self.change(&team, |team| team.name = to),
            TeamsEvent::Described {
                team, description, ..
            } => self.change(&team, |team| team.description = Some(description)),
            TeamsEvent::Moved { team, to, .. } => self.change(&team, |team| team.parent = to),
            TeamsEvent::Merged { team, into } => self.merge(&team, &into),
            TeamsEvent::Split {
                team,
                new,
                name,
                parent,
                members,
                children,
            } => {
                self.insert(new.clone(), name, parent, None);
                self.split(&team, &new, &members, &children);
            }
            TeamsEvent::MembersAdded { team, members } => self.roster(&team, |roster| {
                roster.extend(members.into_iter().map(|member| (member.user, member.role)));
            }),
            TeamsEvent::MemberRoleChanged { team, user, to, .. } => self.roster(&team, |roster| {
                roster.insert(user, to);
            }),
            TeamsEvent::MembersRemoved { team, users, .. } => self.roster(&team, |roster| {
                for user in &users {
                    roster.remove(user);
                }
            }),
            TeamsEvent::Retired { team } => {
                self.teams.remove(&team);
            }
        }
    }
}

impl Root for Teams {
    /// 2: what a team is for is part of the state.
    const FOLD: u32 = 2;
}

impl Teams {
    /// Whether there is such a team.
    pub fn contains(&self, id: &TeamId) -> bool {
        self.teams.contains_key(id)
    }

    fn insert(
        &mut self,
        id: TeamId,
        name: TeamName,
        parent: Option<TeamId>,
        description: Option<TeamDescription>,
    ) {
        let team = Team {
            name,
            parent,
            members: Arc::default(),
            description: Some(description),
        };
        self.teams.insert(id, team);
    }

    fn change(&mut self, id: &TeamId, change: impl FnOnce(&mut Team)) {
        if let Some(team) = self.teams.get_mut(id) {
            change(team);
        }
    }

    fn roster(&mut self, id: &TeamId, change: impl FnOnce(&mut Roster)) {
        self.change(id, |team| change(Arc::make_mut(&mut team.members)));
    }

    fn merge(&mut self, from: &TeamId, into: &TeamId) {
        let Some(merged) = self.teams.remove(from) else {
            return;
        };
        for team in self.teams.values_mut() {
            if team.parent.as_ref() == Some(from) {
                team.parent = Some(into.clone());
            }
        }
        self.roster(into, |roster| {
            for (user, role) in &*merged.members {
                let kept = roster.entry(user.clone()).or_insert(*role);
                *kept = (*kept).max(*role);
            }
        });
    }

    fn split(&mut self, from: &TeamId, new: &TeamId, members: &[UserId], children: &[TeamId]) {
        let mut taken = Roster::new();
        self.roster(from, |roster| {
            taken.extend(members.iter().filter_map(|user| roster.remove_entry(user)));
        });
        self.roster(new, |roster| *roster = taken);
        for child in children {
            self.change(child, |team| team.parent = Some(new.clone()));
        }
    }
}
