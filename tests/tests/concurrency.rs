//! Commands that race each other, through HTTP, in one process and in two on one log: no event is lost, doubled or
//! put out of order, and a unique value has one holder at a time.

#[path = "concurrency/claims.rs"]
mod claims;
#[path = "concurrency/history.rs"]
mod history;
#[path = "concurrency/races.rs"]
mod races;
#[path = "concurrency/roles.rs"]
mod roles;
