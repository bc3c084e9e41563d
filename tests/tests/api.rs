//! The HTTP API, from outside: the real binary on both engines; the modules mirror the API's addresses.

#[path = "api/api_keys.rs"]
mod api_keys;
#[path = "api/commands.rs"]
mod commands;
#[path = "api/consistency.rs"]
mod consistency;
#[path = "api/deliveries.rs"]
mod deliveries;
#[path = "api/endpoints.rs"]
mod endpoints;
#[path = "api/event_types.rs"]
mod event_types;
#[path = "api/events.rs"]
mod events;
#[path = "api/guards.rs"]
mod guards;
#[path = "api/invitations.rs"]
mod invitations;
#[path = "api/operations.rs"]
mod operations;
#[path = "api/problems.rs"]
mod problems;
#[path = "api/process.rs"]
mod process;
#[path = "api/quotas.rs"]
mod quotas;
#[path = "api/resources.rs"]
mod resources;
#[path = "api/roles.rs"]
mod roles;
#[path = "api/settings.rs"]
mod settings;
#[path = "api/signing.rs"]
mod signing;
#[path = "api/sources.rs"]
mod sources;
#[path = "api/stats.rs"]
mod stats;
#[path = "api/teams.rs"]
mod teams;
#[path = "api/tenants.rs"]
mod tenants;
#[path = "api/users.rs"]
mod users;
#[path = "api/world.rs"]
mod world;
