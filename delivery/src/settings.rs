//! What an operator can set.

use std::time::Duration;

use crate::{EgressPolicy, LaneRules, MasterKey, Schedule};

/// The settings of delivery.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Opens the endpoints' signing secrets.
    pub master_key: MasterKey,
    /// When failed attempts are made again.
    pub schedule: Schedule,
    /// Where receivers may be.
    pub egress: EgressPolicy,
    /// The deadline of one HTTP try, over connect, headers and body. With five seconds to spare it must fit into
    /// the lease of the engine's layout.
    pub timeout: Duration,
    /// HTTP tries under way at once in this process that are quick: younger than half a second.
    pub concurrency: usize,
    /// Those beside them that last, or are to endpoints known to be slow.
    pub slow_concurrency: usize,
    /// What endpoints' lanes keep to where an endpoint has no wish of its own.
    pub lanes: LaneRules,
    /// After how long a time of failure without one success an endpoint is disabled that asks for nothing else; none:
    /// never.
    pub disable_after: Option<Duration>,
    /// How Tidings names itself to receivers.
    pub user_agent: String,
}

impl Settings {
    /// The defaults: public receivers, the default schedule, 15 s, 64 quick tries at once, 256 that last, the
    /// default lanes, five days of failure.
    pub fn new(master_key: MasterKey) -> Self {
        Self {
            master_key,
            schedule: Schedule::default(),
            egress: EgressPolicy::public(),
            timeout: Duration::from_secs(15),
            concurrency: 64,
            slow_concurrency: 256,
            lanes: LaneRules::default(),
            disable_after: Some(Duration::from_hours(5 * 24)),
            user_agent: concat!("Tidings/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}
