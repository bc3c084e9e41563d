//! The log is compared with what is known of it: what a disk loses, brings back or changes is found, nothing goes on
//! on top of it, and it can be restored from the archive.

#[path = "trust/detection.rs"]
mod detection;
#[path = "trust/faults.rs"]
mod faults;
#[path = "trust/restoring.rs"]
mod restoring;
#[path = "trust/world.rs"]
mod world;
