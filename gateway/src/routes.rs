//! The features of the API, one file each: its paths, bodies, handlers and their OpenAPI annotations.

#![expect(
    unused_qualifications,
    reason = "the annotations' macro writes out `<Parameters as IntoParams>`"
)]

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod commands;
pub(crate) mod dead_letters;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod endpoints;
pub(crate) mod event_types;
pub(crate) mod events;
mod export;
pub(crate) mod health;
pub(crate) mod inbound;
pub(crate) mod invitations;
pub(crate) mod permissions;
pub(crate) mod projections;
pub(crate) mod proofs;
pub(crate) mod recoveries;
pub(crate) mod replays;
pub(crate) mod roles;
pub(crate) mod settings;
pub(crate) mod sources;
pub(crate) mod stats;
pub(crate) mod teams;
pub(crate) mod tenants;
pub(crate) mod user_files;
pub(crate) mod users;
