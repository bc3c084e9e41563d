//! Users as files: import and export through HTTP, rows that are refused, and memory that does not grow with the file.

#[path = "user_files/lengths.rs"]
mod lengths;
#[path = "user_files/rows.rs"]
mod rows;
#[path = "user_files/world.rs"]
mod world;
