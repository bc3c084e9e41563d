//! What the write path measures.

/// Commands, by `aggregate` and `outcome` (`done`, `rejected`, `taken`, `contended`, `busy`, `failed`).
pub(crate) const COMMANDS: &str = "tidings_commands_total";
/// From the call to the answer of a command, in seconds, by `aggregate`.
pub(crate) const COMMAND_SECONDS: &str = "tidings_command_seconds";
/// Decisions taken anew because something happened between load and append, by `aggregate`.
pub(crate) const CONFLICTS: &str = "tidings_command_conflicts_total";
/// Messages accepted, duplicates excluded.
pub(crate) const MESSAGES: &str = "tidings_messages_published_total";
