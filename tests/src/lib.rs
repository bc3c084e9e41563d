//! The harness of the end-to-end, fault and benchmark programs: it starts real servers, privately.
//!
//! [`tools`] finds and guards programs. [`postgres`] is one of the servers; every test gets a database of its
//! own on it.

pub mod postgres;
pub mod tools;
