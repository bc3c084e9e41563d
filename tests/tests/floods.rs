//! Clients that mean harm, against the real binary: bodies that blow up, heads without end, clients that dawdle or take
//! nothing. Each gets a problem or a closed connection within a bounded time; others are served meanwhile; and what it
//! cost, in memory and open files, is given back.

#[path = "floods/bodies.rs"]
mod bodies;
#[path = "floods/client.rs"]
mod client;
#[path = "floods/heads.rs"]
mod heads;
#[path = "floods/slow.rs"]
mod slow;
