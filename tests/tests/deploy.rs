//! The configuration we ship: that `compose.yaml` fits the rest, what PostgreSQL's roles may do, and that the service
//! runs with exactly these rights. `deploy_nats.rs` tries what NATS's users may do.

#[path = "deploy/compose.rs"]
mod compose;
#[path = "deploy/roles.rs"]
mod roles;
#[path = "deploy/service.rs"]
mod service;
