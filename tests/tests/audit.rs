//! The audit trail, from outside: what it tells, how it is searched, exported and followed, and how long it is kept.

#[path = "audit/access.rs"]
mod access;
#[path = "audit/export.rs"]
mod export;
#[path = "audit/memory.rs"]
mod memory;
#[path = "audit/retention.rs"]
mod retention;
#[path = "audit/search.rs"]
mod search;
#[path = "audit/stream.rs"]
mod stream;
#[path = "audit/world.rs"]
mod world;
