//! The domain of Tidings: what can be asked for, what is refused and why, and what the log says happened.
//!
//! Pure by design: no I/O, no clock, no randomness. Times, ids and secrets' hashes arrive inside commands, so a
//! test or a replay decides exactly what happens.
//!
//! * Aggregates, one file each: [`tenant`], [`api_key`], [`user`], [`role`], [`endpoint`],
//!   [`settings`], [`event_type`], [`team`], [`invitation`], [`source`], [`access_log`], [`legal_hold`]; [`access`] tells what a
//!   user may do. Operators' decisions are aggregates of the platform: [`projection`], [`replay`].
//! * What the log holds: [`Commit`] (the events of one command), [`Claim`] (a unique value taken or released),
//!   [`Message`] (an application event of a tenant), [`DeliveryRecord`] (what became of a delivery).
//! * What can be proved of a log: [`proof`].
//! * The small words they share: ids, [`Timestamp`], [`Position`].

pub mod access;
pub mod access_log;
mod aggregate;
pub mod api_key;
mod bounded;
mod changes;
mod claim;
mod commit;
mod delivery;
mod edit;
pub mod endpoint;
pub mod event_type;
mod id;
pub mod invitation;
pub mod legal_hold;
mod message;
mod permission;
mod position;
pub mod projection;
pub mod proof;
mod properties;
pub mod recovery;
pub mod replay;
pub mod role;
pub mod settings;
pub mod source;
pub mod team;
pub mod tenant;
mod text;
mod time;
pub mod user;

pub use access::Effect;
pub use aggregate::{DecodeEventError, Root, StoredEvent, decode_event, encode_event};
pub use bounded::{Bounded, OutOfBounds};
pub use changes::{Change, changes};
pub use claim::{Claim, ClaimRecord};
pub use commit::{Actor, Commit, DecodeError, EventRecord, Meta};
pub use delivery::{
    AttemptOutcome, DeliveryFact, DeliveryRecord, ErrorClass, HeadField, InvalidErrorClass, MessageRef, Next,
    ResponseHead, Sent, Trigger,
};
pub use edit::Edit;
pub use id::{
    AccessLogId, CredentialId, DeliveryId, EndpointId, EventId, EventTypeId, InvalidId, InvitationId, KeyId,
    RecoveryId, ReplayId, RoleId, SecretId, SourceAddress, SourceId, TeamId, TenantId, TokenId, UserId,
};
pub use message::{EventType, InvalidEventType, Message};
pub use permission::{Grant, InvalidPermission, Permission, Scope};
pub use position::{InvalidPosition, Position, Source};
pub use properties::{InvalidProperties, Properties};
pub use text::{InvalidText, Text};
pub use time::{InvalidTimestamp, Timestamp};
