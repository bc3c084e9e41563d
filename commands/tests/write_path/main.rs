//! The write path against the embedded engine. (Through HTTP and on both engines: the `tests` crate.)

#![expect(
    clippy::unwrap_used,
    reason = "what a test prepares must succeed, in its helpers too"
)]

mod executing;
mod installation;
mod lagging;
mod loading;
mod publishing;
mod together;
mod under;
mod unkept;
mod wavering;
