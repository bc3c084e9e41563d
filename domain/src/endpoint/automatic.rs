//! When Tidings itself disables an endpoint, and why.

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::{DeliveryId, Text, Timestamp};

/// Why Tidings itself disables an endpoint; nobody asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Automatic {
    /// Its receiver answered 410 Gone: it wants nothing any more.
    Gone {
        /// To which delivery.
        delivery: DeliveryId,
    },
    /// No attempt since then was a success.
    Failing {
        /// When the first of those attempts was made.
        since: Timestamp,
    },
}

impl Automatic {
    /// In words.
    pub fn reason(&self) -> Reason {
        Text::fitting(&match self {
            Self::Gone { .. } => "the receiver answered 410 Gone".to_owned(),
            Self::Failing { since } => format!("no attempt since {since} was a success"),
        })
    }
}
