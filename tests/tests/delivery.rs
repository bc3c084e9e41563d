//! Delivery from outside: the real binary on both engines against a receiver that behaves as it likes. A module per
//! idea; each case is written once and runs on both engines ([`tests::for_each_engine`]).

#[path = "delivery/authentication.rs"]
mod authentication;
#[path = "delivery/egress.rs"]
mod egress;
#[path = "delivery/facts.rs"]
mod facts;
#[path = "delivery/forms.rs"]
mod forms;
#[path = "delivery/lanes.rs"]
mod lanes;
#[path = "delivery/letters.rs"]
mod letters;
#[path = "delivery/log.rs"]
mod log;
#[path = "delivery/matching.rs"]
mod matching;
#[path = "delivery/order.rs"]
mod order;
#[path = "delivery/outcomes.rs"]
mod outcomes;
#[path = "delivery/policies.rs"]
mod policies;
#[path = "delivery/recovery.rs"]
mod recovery;
#[path = "delivery/waits.rs"]
mod waits;
#[path = "delivery/workers.rs"]
mod workers;
#[path = "delivery/world.rs"]
mod world;
