//! A team's members, and how they are kept in snapshots.
//!
//! In a snapshot (see [`kept`](super::kept)) the users of a role are one text, 26 characters of ULID each: [`MAX_MEMBERSHIPS`](super::MAX_MEMBERSHIPS)
//! of them then fit into what a bucket takes for one value.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::TeamRole;
use crate::UserId;

/// Who belongs to a team, as what.
pub(super) type Roster = BTreeMap<UserId, TeamRole>;

/// The characters of an id behind its prefix.
const SUFFIX: usize = 26;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "a field is handed over so")]
pub(super) fn serialize<S: Serializer>(roster: &&Arc<Roster>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut by_role: BTreeMap<TeamRole, String> = BTreeMap::new();
    for (user, role) in &***roster {
        let suffix = user.as_str().strip_prefix(UserId::PREFIX).unwrap_or_default();
        by_role.entry(*role).or_default().push_str(suffix);
    }
    by_role.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Roster>, D::Error> {
    let by_role = BTreeMap::<TeamRole, String>::deserialize(deserializer)?;
    let mut roster = Roster::new();
    for (role, users) in by_role {
        for suffix in users.as_bytes().chunks(SUFFIX) {
            let suffix = str::from_utf8(suffix).map_err(D::Error::custom)?;
            let user = format!("{}{suffix}", UserId::PREFIX);
            roster.insert(user.parse().map_err(D::Error::custom)?, role);
        }
    }
    Ok(Arc::new(roster))
}
