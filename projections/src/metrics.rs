//! The names of this crate's metrics. Labels: `projection`, and `log` as `EVENTS-0`.

/// Gauge, records: how many stored records a projection has not applied yet.
pub const LAG_RECORDS: &str = "tidings_projection_lag_records";

/// Gauge, seconds: for how long a projection has missed records; 0 where nothing waits.
pub const LAG_SECONDS: &str = "tidings_projection_lag_seconds";

/// Counter, records: how many records a projection has gone past, those it does not fold included.
pub const APPLIED: &str = "tidings_projection_records_total";

/// Counter, errors: how often a projection failed and tried again, or stopped.
pub const ERRORS: &str = "tidings_projection_errors_total";

/// Gauge, tenants: how many tenants a projection has parked because of a record it cannot apply.
pub const PARKED: &str = "tidings_projection_parked_tenants";

/// Gauge, 0 or 1: whether a projection has stopped for good because its log is not as it must be.
pub const STOPPED: &str = "tidings_projection_stopped";
