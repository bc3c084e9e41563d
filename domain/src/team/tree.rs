//! Questions about the tree of teams that its rules are made of.

use std::collections::BTreeMap;

use super::{Team, TeamName, Teams};
use crate::TeamId;

impl Teams {
    /// How many memberships there are.
    pub(super) fn memberships(&self) -> usize {
        self.teams.values().map(|team| team.members.len()).sum()
    }

    /// The teams directly under a parent.
    pub(super) fn children<'a>(
        &'a self,
        parent: Option<&'a TeamId>,
    ) -> impl Iterator<Item = (&'a TeamId, &'a Team)> {
        self.teams
            .iter()
            .filter(move |(_, team)| team.parent.as_ref() == parent)
    }

    /// The team under a parent that has a name, folded; `except` does not count.
    pub(super) fn named<'a>(
        &'a self,
        name: &TeamName,
        parent: Option<&'a TeamId>,
        except: Option<&TeamId>,
    ) -> Option<&'a TeamId> {
        let folded = name.as_str().to_lowercase();
        self.children(parent)
            .filter(|(id, _)| Some(*id) != except)
            .find(|(_, team)| team.name.as_str().to_lowercase() == folded)
            .map(|(id, _)| id)
    }

    /// A team and those above it, up to one without parent.
    pub(super) fn upwards<'a>(&'a self, from: Option<&'a TeamId>) -> impl Iterator<Item = &'a TeamId> {
        let parent = |id: &&'a TeamId| self.teams.get(*id).and_then(|team| team.parent.as_ref());
        std::iter::successors(from, parent)
    }

    /// A team and all that is below it, each after what is below it, with how far below the team it stands.
    pub(super) fn below<'a>(&'a self, top: &'a TeamId) -> Vec<(&'a TeamId, usize)> {
        let mut children: BTreeMap<&TeamId, Vec<&TeamId>> = BTreeMap::new();
        for (id, team) in &self.teams {
            if let Some(parent) = &team.parent {
                children.entry(parent).or_default().push(id);
            }
        }
        let mut found = vec![(top, 0)];
        let mut next = 0;
        while let Some((id, distance)) = found.get(next).copied() {
            let under = children.remove(id).unwrap_or_default();
            found.extend(under.into_iter().map(|child| (child, distance + 1)));
            next += 1;
        }
        found.reverse();
        found
    }

    /// How many levels a team and what is below it take.
    pub(super) fn height(&self, id: &TeamId) -> usize {
        // The first stands as far below as any.
        self.below(id).first().map_or(0, |(_, distance)| distance + 1)
    }
}
