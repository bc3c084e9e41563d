//! How teams are kept in snapshots: with what each is for, as far as a snapshot has room for it.
//!
//! The largest tree that a tenant can have fills a snapshot by itself. What does not fit is not known to whoever goes on
//! from the snapshot, and an event that changes it does not say then what it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::roster::{self, Roster};
use super::{Team, TeamDescription, TeamName};
use crate::TeamId;

/// What a bucket takes for one value on every engine, less room for what a snapshot says besides its state.
pub(super) const ROOM: usize = (1 << 20) - 4_096 - 1_024;

/// A team in a snapshot.
#[derive(Serialize)]
struct Kept<'t> {
    name: &'t TeamName,
    parent: &'t Option<TeamId>,
    #[serde(serialize_with = "roster::serialize")]
    members: &'t Arc<Roster>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'t Option<TeamDescription>>,
}

impl<'t> Kept<'t> {
    fn bare(team: &'t Team) -> Self {
        Self {
            name: &team.name,
            parent: &team.parent,
            members: &team.members,
            description: None,
        }
    }
}

#[derive(Serialize)]
struct State<'k, 't> {
    teams: &'k BTreeMap<&'t TeamId, Kept<'t>>,
}

fn length<E: serde::ser::Error>(value: &impl Serialize) -> Result<usize, E> {
    let text = serde_json::to_vec(value).map_err(E::custom)?;
    Ok(text.len())
}

pub(super) fn serialize<S: Serializer>(
    teams: &BTreeMap<TeamId, Team>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut kept: BTreeMap<_, _> = teams.iter().map(|(id, team)| (id, Kept::bare(team))).collect();
    let mut room = ROOM.saturating_sub(length::<S::Error>(&State { teams: &kept })?);
    for (team, kept) in teams.values().zip(kept.values_mut()) {
        let Some(description) = &team.description else {
            continue;
        };
        let needed = length::<S::Error>(description)? + ",\"description\":".len();
        if needed <= room {
            room -= needed;
            kept.description = Some(description);
        }
    }
    kept.serialize(serializer)
}

/// A field that is there, whatever it holds.
#[expect(
    clippy::option_option,
    reason = "none where it is not known, none inside where there is none"
)]
pub(super) fn known<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<TeamDescription>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
