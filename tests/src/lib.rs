//! The harness of the end-to-end, fault and benchmark programs: it starts real servers, privately.
//!
//! [`tools`] finds and guards programs, [`processes`] looks at them. [`postgres`] is one of the servers; every test gets a database of its
//! own on it. [`nats`] is the other; a test has one to itself. [`proxy`] stands before a server and spoils what
//! passes. [`service`] is the service under test, [`http`] a client of its API, [`receiver`] the far end of its
//! webhooks, which speaks TLS by [`tls`] and is found by [`hosts`], [`clock`] the time it goes by, and [`sample`] real events to publish. [`bench`] is the
//! benchmark program, [`faults`] the fault harness.
//!
//! [`simulator`] needs no server: it runs parts of the service on ports in memory that fail as a seed says.

pub mod bench;
pub mod clock;
pub mod faults;
pub mod hosts;
pub mod http;
pub mod nats;
pub mod postgres;
pub mod processes;
pub mod proxy;
pub mod receiver;
pub mod sample;
pub mod service;
mod shims;
pub mod simulator;
pub mod tls;
pub mod tools;
