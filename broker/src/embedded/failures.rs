//! What SQLite's result codes mean here (<https://www.sqlite.org/rescode.html>).

const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOT_A_DATABASE: u32 = 26;

/// Whether the file's content is wrong.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(CORRUPT | NOT_A_DATABASE))
}

/// Whether the disk is full. The frame that makes a transaction valid is written last, so that one which met a full
/// disk on the way has certainly not happened.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    code(error) == Some(FULL)
}

fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    // The lowest byte of an extended code is the code.
    code.parse::<u32>().ok().map(|code| code & 0xff)
}
