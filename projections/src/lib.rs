//! The read side: folds of the log into SQL tables, and the queries on them.
//!
//! * [`Projection`] is the contract of a fold; [`models`] holds one file per read model: tables, fold, queries.
//! * [`Projectors`] follow the logs and apply batches, each in one transaction with its checkpoint.
//! * [`ReadModels`] is the way to the queries, and to waiting for one's own writes.
//! * [`verify`] compares what is live with a fold of the whole log.
//!
//! The same SQL runs on PostgreSQL and SQLite; `engine` holds what differs.

mod checkpoints;
mod cuts;
mod engine;
mod events;
mod fences;
mod generations;
mod incoming;
mod inspect;
pub mod metrics;
pub mod models;
mod page;
mod progress;
mod projection;
mod projectors;
mod read_models;
pub mod rebuild;
pub mod restore;
mod rows;
mod scratch;
mod seed;
mod sql;
pub mod table;
mod troubles;
#[cfg(feature = "unfiltered")]
mod unfiltered;
pub mod verify;

pub use checkpoints::Parked;
pub use generations::{Generation, Standing};
pub use inspect::CopiedRow;
pub use models::{ApiKeyRow, ApiKeyStatus, ApiKeys, forget_deliveries};
pub use models::{
    AttemptRow, Audit, AuditFilter, AuditPlace, AuditRow, DeadLetterEndpoint, DeadLetterFilter, Deliveries,
    DeliveryFilter, DeliveryRow, DeliveryStatus, EndpointRow, EndpointStatus, Endpoints, EventTypeRow,
    EventTypeTotal, EventTypeVersionRow, EventTypes, Followed, InvalidAuditPlace, InvalidStatus,
    InvitationFilter, InvitationRow, Invitations, LeafRow, MessageFilter, MessageRow, Messages, Outcome,
    RoleDetail, RoleRow, RolesOf, SettingsOf, SettingsRow, Stats, StatsOf, StatusCounts, TeamFilter,
    TeamMemberRow, TeamRow, Teams, TenantRow, Tenants, Tree, TreeSnapshot, TreeState, Usage, UsageOf,
    UserFilter, UserRow, Users,
};
pub use models::{
    DeliveryFigures, Interval, InvalidSeries, Metric, Point, Points, Quantiles, Series, SeriesOf, SeriesQuery,
};
pub use models::{HolderRow, Permissions, RoleHolderRow};
pub use models::{SourceRow, SourceStatus, Sources};
pub use page::{Answer, Listing, Page, QueryError};
pub use progress::Stale;
pub use projection::{ApplyError, Fact, Incoming, Portion, Projection, Share};
pub use projectors::{Control, Logs, ProjectionStatus, Projectors, logs_of};
pub use read_models::{OpenError, ReadModels, Settings, Target};
pub use rows::Rows;
pub use scratch::{create_database, drop_database};
pub use seed::Seed;
pub use sql::{Statement, Value};
pub use troubles::{Teller, Trouble};
#[cfg(feature = "unfiltered")]
pub use unfiltered::Seen;
