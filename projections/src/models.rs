//! The read models: one file each, with its tables, its fold and its queries.
//!
//! A new one is a file here, a line in [`all`], a migration that makes its tables (and, on PostgreSQL, isolates
//! them), and a way to its queries on [`crate::ReadModels`].

mod api_keys;
pub(crate) mod archive;
mod audit;
mod deliveries;
mod endpoints;
mod event_types;
mod invitations;
mod messages;
mod permissions;
mod roles;
mod series;
mod settings;
mod sources;
mod stats;
mod teams;
mod tenants;
mod tree;
mod usage;
mod users;

use std::sync::Arc;

use crate::projection::Projection;

pub use api_keys::{ApiKeyRow, ApiKeyStatus, ApiKeys};
pub(crate) use audit::retention;
pub use audit::{Audit, AuditFilter, AuditPlace, AuditRow, Followed, InvalidAuditPlace, Outcome};
pub(crate) use deliveries::retention as forgetting;
pub use deliveries::retention::forget_deliveries;
pub use deliveries::{
    AttemptRow, DeadLetterEndpoint, DeadLetterFilter, Deliveries, DeliveryFilter, DeliveryRow,
    DeliveryStatus, InvalidStatus,
};
pub use endpoints::{EndpointRow, EndpointStatus, Endpoints};
pub use event_types::{EventTypeRow, EventTypeVersionRow, EventTypes};
pub use invitations::{InvitationFilter, InvitationRow, Invitations};
pub use messages::{MessageFilter, MessageRow, Messages};
pub use permissions::{HolderRow, Permissions, RoleHolderRow};
pub use roles::{RoleDetail, RoleRow, RolesOf};
pub use series::{
    DeliveryFigures, Interval, InvalidSeries, Metric, Point, Points, Quantiles, Series, SeriesOf, SeriesQuery,
};
pub use settings::{SettingsOf, SettingsRow};
pub use sources::{SourceRow, SourceStatus, Sources};
pub use stats::{EventTypeTotal, Stats, StatsOf, StatusCounts};
pub use teams::{TeamFilter, TeamMemberRow, TeamRow, Teams};
pub use tenants::{TenantRow, Tenants};
pub use tree::{LeafRow, Tree, TreeSnapshot, TreeState};
pub use usage::{Usage, UsageOf};
pub use users::{UserFilter, UserRow, Users};

/// Every projection of the installation.
pub fn all() -> Vec<Arc<dyn Projection>> {
    vec![
        Arc::new(archive::ArchiveProjection),
        Arc::new(tenants::TenantsProjection),
        Arc::new(users::UsersProjection),
        Arc::new(roles::RolesProjection),
        Arc::new(permissions::PermissionsProjection),
        Arc::new(teams::TeamsProjection),
        Arc::new(invitations::InvitationsProjection),
        Arc::new(endpoints::EndpointsProjection),
        Arc::new(event_types::EventTypesProjection),
        Arc::new(sources::SourcesProjection),
        Arc::new(audit::AuditProjection),
        Arc::new(messages::MessagesProjection),
        Arc::new(deliveries::DeliveriesProjection),
        Arc::new(stats::StatsProjection),
        Arc::new(series::SeriesProjection),
        Arc::new(api_keys::ApiKeysProjection),
        Arc::new(settings::SettingsProjection),
        Arc::new(usage::UsageProjection),
        Arc::new(tree::TreeProjection),
    ]
}

#[cfg(test)]
mod tests {
    use domain::Source;

    use super::*;

    #[test]
    fn what_a_log_that_forgets_has_made_can_be_told() {
        for projection in all() {
            for source in [Source::Messages, Source::Deliveries] {
                let follows = projection.sources().contains(&source);
                let portions = projection.portions(source);
                assert_eq!(
                    follows,
                    !portions.is_empty(),
                    "{} and {source:?}",
                    projection.name()
                );
                for portion in portions {
                    let of_this = projection
                        .tables()
                        .iter()
                        .any(|table| table.name == portion.table.name);
                    assert!(of_this, "{} is not of {}", portion.table.name, projection.name());
                }
            }
        }
    }
}
