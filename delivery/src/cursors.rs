//! The cursors of delivery, for the repair of an installation while nothing runs.

use std::collections::BTreeMap;

use broker::Engine;
use broker::layout::{Bucket, Log};

use crate::cursor::{Cursor, CursorError};

/// Why a cursor could not be read or moved.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unmoved(#[from] CursorError);

/// Which log each purpose follows.
fn purpose(log: Log) -> Option<&'static str> {
    match log {
        Log::Events(_) => Some(crate::requests::CURSOR),
        Log::Messages(_) => Some(crate::matcher::CURSOR),
        Log::Attempts => None,
    }
}

/// How far delivery has come along each log that it follows with a cursor.
pub async fn places(engine: &dyn Engine) -> Result<BTreeMap<Log, u64>, Unmoved> {
    let mut places = BTreeMap::new();
    for log in engine.layout().logs() {
        if let Some(purpose) = purpose(log) {
            let cursor = Cursor::load(engine.bucket(Bucket::Cursors), purpose, log).await?;
            places.insert(log, cursor.at());
        }
    }
    Ok(places)
}

/// Puts the cursor of a log there: everything up to that record counts as dealt with, and nothing after it.
pub async fn put(engine: &dyn Engine, log: Log, at: u64) -> Result<(), Unmoved> {
    let Some(purpose) = purpose(log) else {
        return Ok(());
    };
    let mut cursor = Cursor::load(engine.bucket(Bucket::Cursors), purpose, log).await?;
    Ok(cursor.advance(at).await?)
}
