//! The write path of Tidings: load → handle → append.
//!
//! * [`Dispatcher`] executes commands: it loads the aggregate, lets it decide, and appends what it decided under
//!   the expectation that nothing happened meanwhile; where something did, it decides again.
//! * [`TenantStore`] is the part that knows the log: `cqrs_es::EventStore` for the aggregates of one tenant.
//! * [`Publisher`] accepts tenants' application events into the log of messages.
//!
//! A success is answered only after the log has acknowledged: it is true for ever.

mod cache;
mod claims;
mod dispatcher;
mod error;
mod gate;
mod metrics;
mod publisher;
mod receipts;
mod search;
mod snapshots;
mod store;
mod together;

pub use claims::ClaimKey;
pub use dispatcher::{Call, Dispatcher, Loaded, Receipt, Settings};
pub use error::{Either, Error, LoadError};
pub use gate::{Gate, Passed};
pub use publisher::{Draft, MAX_BULK, MAX_DATA_BYTES, Origin, PublishError, Published, Publisher};
pub use store::{Context, TenantStore};
pub use together::Order;

/// The shard every tenant's records are in. Tenants move to other shards when the map of tenants to shards
/// becomes data; the logs, subjects and positions already name theirs.
const SHARD: broker::layout::Shard = 0;
