//! Delivery: from a message in the log to a signed webhook at every endpoint that wants it (design §8).
//!
//! 1. [`Endpoints`](endpoints) keeps every endpoint in memory, folded from the logs of events, and which tenants are
//!    suspended or terminated; the jobs of suspended ones are [`held`].
//! 2. [`matcher`] follows the logs of messages; each match becomes a fact in the delivery log and a job.
//! 3. [`worker`] leases jobs into [`lanes`], posts ([`post`], [`egress`], [`body`], [`sign`], [`secrets`]), records
//!    the attempt and settles: done, due again by the [`schedule`], or a dead letter.
//!    Those of an endpoint that asks for it are sent in their [`ordering`]. Endpoints that are gone or have been
//!    [`failing`] for long are disabled through a port ([`control`]).
//! 4. [`requests`] carries out what was asked: redrive, discard, resend. [`recovery`] delivers past messages that an
//!    endpoint did not get; [`facts`] are published, what became of endpoints and deliveries, as messages of their own.
//!
//! The delivery log is the truth, the queue only wakes. Each step stores its result before it lets go of what caused
//! it, so a crash anywhere repeats a step and loses none: at least once, always under the same `webhook-id`.

mod body;
mod control;
mod cursor;
pub mod cursors;
mod egress;
mod endpoints;
mod facts;
mod failing;
mod health;
mod held;
mod lanes;
mod master_key;
mod matcher;
pub mod metrics;
mod ordering;
mod pace;
mod post;
mod public_keys;
mod recovery;
mod requests;
mod schedule;
mod secrets;
mod service;
mod settings;
mod sign;
mod work;
mod worker;

pub use body::body_again;
pub use control::EndpointControl;
pub use egress::{EgressPolicy, Forbidden, InvalidNetworks, InvalidPorts, InvalidSchemes, Ports, Schemes};
pub use lanes::{BreakerRules, LaneRules, Rate};
pub use master_key::{InvalidMasterKey, MasterKey};
pub use post::{InvalidCertificate, check_certificate, install_crypto};
pub use public_keys::PublicKeys;
pub use recovery::RecoveryControl;
pub use schedule::{InvalidSchedule, Schedule};
pub use secrets::{SecretError, SecretReader, SecretText, SecretWriter};
pub use service::{Delivery, StartError, Status};
pub use settings::Settings;
pub use sign::{
    HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, InvalidSecret, PublicKey, Secret, sign, sign_by,
};
