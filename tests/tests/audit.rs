//! The audit trail, from outside: what it tells, how it is searched, exported and followed, and how long it is kept.

#[path = "audit/access.rs"]
mod access;
#[path = "audit/world.rs"]
mod world;
