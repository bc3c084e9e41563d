//! What operators do with read models, through the real binary on both engines: replays under load, kills, decisions
//! and their trail, looking into the past, and the terminal; and what is told of age, lag and figures meanwhile.

#[path = "operations/aged.rs"]
mod aged;
#[path = "operations/decisions.rs"]
mod decisions;
#[path = "operations/figures.rs"]
mod figures;
#[path = "operations/freshness.rs"]
mod freshness;
#[path = "operations/kills.rs"]
mod kills;
#[path = "operations/load.rs"]
mod load;
#[path = "operations/past.rs"]
mod past;
#[path = "operations/terminal.rs"]
mod terminal;
#[path = "operations/trail.rs"]
mod trail;
#[path = "operations/world.rs"]
mod world;
