//! The archive: every record of every log of events, verbatim. Not a view of the log but the check on it, and what a
//! log that was lost is restored from (design §5, "never trust the broker's disk alone").

use async_trait::async_trait;
use broker::trust;
use domain::Source;

use crate::projection::{ApplyError, Incoming, Projection};
use crate::rows::Rows;
use crate::table::{Column, Growth, Row, Table};

/// The name of the projection.
pub(crate) const NAME: &str = "archive";

/// The records.
pub(crate) static ARCHIVE: Table = Table {
    name: "event_archive",
    key: 2,
    columns: &[
        Column::int("shard"),
        Column::int("sequence"),
        Column::text("subject"),
        Column::text("message_id"),
        Column::int("stored_at"),
        Column::bytes("payload"),
    ],
    growth: Growth::Added,
};

/// The last record of each log, so that a log can be compared with the archive by whoever may not read that.
static FENCES: Table = Table {
    name: "event_fences",
    key: 1,
    columns: &[
        Column::int("shard"),
        Column::int("sequence"),
        Column::text("digest"),
    ],
    growth: Growth::Kept,
};

/// The fold.
#[derive(Debug)]
pub(super) struct ArchiveProjection;

#[async_trait]
impl Projection for ArchiveProjection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> i64 {
        1
    }

    fn sources(&self) -> &'static [Source] {
        &[Source::Events]
    }

    fn tables(&self) -> &'static [&'static Table] {
        const { &[&ARCHIVE, &FENCES] }
    }

    async fn apply(&self, batch: &[Incoming], rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        for record in batch {
            rows.add(&ARCHIVE, row(record));
        }
        if let Some(last) = batch.last() {
            let at = last.position;
            let digest = trust::digest_of(at.sequence, &last.subject, &last.message_id, &last.payload);
            let fence = vec![at.shard.into(), at.sequence.into(), hex::encode(digest).into()];
            rows.put(&FENCES, fence);
        }
        Ok(())
    }

    fn verbatim(&self) -> bool {
        true
    }

    fn lasting(&self) -> bool {
        true
    }
}

fn row(record: &Incoming) -> Row {
    vec![
        record.position.shard.into(),
        record.position.sequence.into(),
        record.subject.as_str().into(),
        record.message_id.as_str().into(),
        record.stored_at.into(),
        record.payload.to_vec().into(),
    ]
}
