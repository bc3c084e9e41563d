//! `Idempotency-Key`, through HTTP on both engines: a request sent again under its key happens once and is answered
//! the same, whatever happens to the process in between.

#[path = "idempotency/answers.rs"]
mod answers;
#[path = "idempotency/changed.rs"]
mod changed;
#[path = "idempotency/crashes.rs"]
mod crashes;
#[path = "idempotency/receipts.rs"]
mod receipts;
#[path = "idempotency/walk.rs"]
mod walk;
#[path = "idempotency/world.rs"]
mod world;
