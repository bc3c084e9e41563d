//! Quotas: how much of each thing a tenant can have.

use serde::{Deserialize, Serialize};

use crate::{Bounded, Edit};

/// How many of a thing there can be at once: 0 to 1,000,000,000.
pub type Quantity = Bounded<0, 1_000_000_000>;
/// How many requests a second are answered: 1 to 1,000,000.
pub type Rate = Bounded<1, 1_000_000>;

/// A tenant's quotas; none: unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Users that are not removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Quantity>,
    /// Endpoints that are not removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Quantity>,
    /// API keys that are not revoked, expired ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<Quantity>,
    /// Teams that are not retired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams: Option<Quantity>,
    /// Requests a second, for each process that answers them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<Rate>,
}

impl Quotas {
    /// These, changed.
    pub(super) fn with(self, change: QuotasChange) -> Self {
        Self {
            users: change.users.of(self.users),
            endpoints: change.endpoints.of(self.endpoints),
            api_keys: change.api_keys.of(self.api_keys),
            teams: change.teams.of(self.teams),
            requests_per_second: change.requests_per_second.of(self.requests_per_second),
        }
    }

    /// How many of a thing there can be.
    pub fn of(&self, counted: Counted) -> Option<u64> {
        let quantity = match counted {
            Counted::Users => self.users,
            Counted::Endpoints => self.endpoints,
            Counted::ApiKeys => self.api_keys,
            Counted::Teams => self.teams,
        };
        quantity.map(|quantity| u64::from(quantity.get()))
    }
}

/// What shall become of each quota; `Reset` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotasChange {
    /// See [`Quotas::users`].
    pub users: Edit<Quantity>,
    /// See [`Quotas::endpoints`].
    pub endpoints: Edit<Quantity>,
    /// See [`Quotas::api_keys`].
    pub api_keys: Edit<Quantity>,
    /// See [`Quotas::teams`].
    pub teams: Edit<Quantity>,
    /// See [`Quotas::requests_per_second`].
    pub requests_per_second: Edit<Rate>,
}

/// A thing of which a tenant can have so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// Users that are not removed.
    Users,
    /// Endpoints that are not removed.
    Endpoints,
    /// API keys that are not revoked.
    ApiKeys,
    /// Teams that are not retired.
    Teams,
}

impl Counted {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Users, Self::Endpoints, Self::ApiKeys, Self::Teams];

    /// The quota's name, as it stands in [`Quotas`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Endpoints => "endpoints",
            Self::ApiKeys => "api_keys",
            Self::Teams => "teams",
        }
    }

    /// The kind of the aggregates whose commits make one more.
    pub fn aggregate(self) -> &'static str {
        match self {
            Self::Users => "user",
            Self::Endpoints => "endpoint",
            Self::ApiKeys => "api_key",
            Self::Teams => "teams",
        }
    }

    /// Of what an event of this wire name makes one more, or one less.
    pub fn changed_by(event_type: &str) -> Option<(Self, i64)> {
        match event_type {
            "user.registered" => Some((Self::Users, 1)),
            "user.removed" => Some((Self::Users, -1)),
            "endpoint.created" => Some((Self::Endpoints, 1)),
            "endpoint.removed" => Some((Self::Endpoints, -1)),
            "api_key.issued" => Some((Self::ApiKeys, 1)),
            "api_key.revoked" => Some((Self::ApiKeys, -1)),
            "team.created" | "team.split" => Some((Self::Teams, 1)),
            "team.merged" | "team.retired" => Some((Self::Teams, -1)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::Aggregate;

    use super::*;
    use crate::api_key::{ApiKey, ApiKeyEvent};
    use crate::endpoint::{Endpoint, EndpointEvent};
    use crate::team::{Teams, TeamsEvent};
    use crate::user::{User, UserEvent};

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let given = Quotas {
            users: Some(Quantity::fixed::<3>()),
            teams: Some(Quantity::fixed::<0>()),
            ..Quotas::default()
        };
        let change = QuotasChange {
            users: Edit::Reset,
            endpoints: Edit::Set(Quantity::fixed::<7>()),
            ..QuotasChange::default()
        };
        let changed = given.with(change);
        let limits = Counted::ALL.map(|counted| changed.of(counted));
        assert_eq!(limits, [None, Some(7), None, Some(0)]);
    }

    /// The names of counted things are those of the quotas, which clients see both.
    #[test]
    fn a_counted_thing_is_called_as_its_quota() {
        let one = Some(Quantity::fixed::<1>());
        let all = Quotas {
            users: one,
            endpoints: one,
            api_keys: one,
            teams: one,
            requests_per_second: None,
        };
        let form = serde_json::to_value(all).unwrap();
        for counted in Counted::ALL {
            assert_eq!(form[counted.name()], 1);
        }
    }

    #[test]
    fn what_comes_into_being_counts_until_it_is_gone() {
        let counting = |wire: &[(&'static str, u16)]| -> Vec<_> {
            let changes = wire.iter().map(|(name, _)| (*name, Counted::changed_by(name)));
            changes
                .filter_map(|(name, change)| Some((name, change?)))
                .collect()
        };
        assert_eq!(
            counting(UserEvent::WIRE),
            [
                ("user.registered", (Counted::Users, 1)),
                ("user.removed", (Counted::Users, -1))
            ]
        );
        assert_eq!(
            counting(EndpointEvent::WIRE),
            [
                ("endpoint.created", (Counted::Endpoints, 1)),
                ("endpoint.removed", (Counted::Endpoints, -1))
            ]
        );
        assert_eq!(
            counting(ApiKeyEvent::WIRE),
            [
                ("api_key.issued", (Counted::ApiKeys, 1)),
                ("api_key.revoked", (Counted::ApiKeys, -1))
            ]
        );
        assert_eq!(
            counting(TeamsEvent::WIRE),
            [
                ("team.created", (Counted::Teams, 1)),
                ("team.merged", (Counted::Teams, -1)),
                ("team.split", (Counted::Teams, 1)),
                ("team.retired", (Counted::Teams, -1))
            ]
        );
    }

    #[test]
    fn each_counted_thing_is_made_by_aggregates_of_its_kind() {
        let kinds = [User::TYPE, Endpoint::TYPE, ApiKey::TYPE, Teams::TYPE];
        assert_eq!(Counted::ALL.map(Counted::aggregate), kinds);
    }
}
