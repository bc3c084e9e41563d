//! Files of users, as they are cut into rows while they arrive.

use bytes::BytesMut;
use tokio_util::codec::Decoder as _;

use crate::gateway::cut::{Broken, Cutter, Form, Row};

/// A byte that says how long the pieces are in which the rest arrives: however it does, the rows are the same, all of it
/// is used up, and what was read as a row of CSV is that row when it is written.
pub(crate) fn import(bytes: &[u8]) {
    let Some((piece, body)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    for form in [Form::Csv, Form::Lines] {
        let whole = rows(form, body, usize::MAX);
        assert_eq!(rows(form, body, piece), whole, "in pieces of {piece}");
        for row in whole.into_iter().flatten() {
            let Row::Cells(cells) = row else { continue };
            let quoted = cells
                .iter()
                .map(|cell| format!("\"{}\"", cell.replace('"', "\"\"")));
            let written = quoted.collect::<Vec<_>>().join(",");
            let again = rows(Form::Csv, written.as_bytes(), usize::MAX);
            assert_eq!(again, [Ok(Row::Cells(cells))], "it changes when it is written");
        }
    }
}

fn rows(form: Form, body: &[u8], piece: usize) -> Vec<Result<Row, Broken>> {
    let mut cutter = Cutter::new(form);
    let (mut buffer, mut rows) = (BytesMut::new(), Vec::new());
    for part in body.chunks(piece) {
        buffer.extend_from_slice(part);
        while let Ok(Some(row)) = cutter.decode(&mut buffer) {
            rows.push(row);
        }
    }
    while let Ok(Some(row)) = cutter.decode_eof(&mut buffer) {
        rows.push(row);
    }
    assert!(buffer.is_empty(), "{} bytes are left", buffer.len());
    rows
}
