//! Delivery from outside: the real binary on both engines against a receiver that behaves as it likes. A module per
//! idea; each case is written once and runs on both engines ([`tests::for_each_engine`]).

#[path = "delivery/policies.rs"]
mod policies;
#[path = "delivery/world.rs"]
mod world;
