//! Delivery.
mod body;
mod egress;
mod master_key;
mod post;
mod schedule;
mod secrets;
mod sign;

pub use egress::{EgressPolicy, Forbidden, InvalidNetworks};
pub use master_key::{InvalidMasterKey, MasterKey};
pub use schedule::{InvalidSchedule, Schedule};
pub use secrets::{SecretError, SecretReader, SecretWriter};
pub use sign::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, InvalidSecret, Secret, sign};
