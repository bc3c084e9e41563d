//! What operators do with read models, through the real binary on both engines: replays under load, kills, decisions,
//! looking into the past, and the terminal.

#[path = "operations/aged.rs"]
mod aged;
#[path = "operations/decisions.rs"]
mod decisions;
#[path = "operations/kills.rs"]
mod kills;
#[path = "operations/load.rs"]
mod load;
#[path = "operations/past.rs"]
mod past;
#[path = "operations/terminal.rs"]
mod terminal;
#[path = "operations/world.rs"]
mod world;
