//! The simulator's seeds: what must hold whatever goes wrong, and what is broken on purpose and must be seen.
//!
//! `TIDINGS_SEEDS=20000` runs so many seeds of each scenario instead of the few that fit into every build.
//! `TIDINGS_SEED=7` runs the one, and prints what happens.

#[path = "simulator/controls.rs"]
mod controls;
#[path = "simulator/regressions.rs"]
mod regressions;
#[path = "simulator/replay.rs"]
mod replay;
#[path = "simulator/seeds.rs"]
mod seeds;
#[path = "simulator/writing.rs"]
mod writing;
