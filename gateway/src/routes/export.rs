//! Exports: a list as one streamed file, read page by page, so that its length does not matter.
//!
//! A spreadsheet takes a cell that begins with `=` or the like for a formula, which can send away what stands beside
//! it. In CSV such cells begin with `'`.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use projections::{Answer, Listing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::consistency::Truth;
use crate::problem::{Problem, ProblemType};

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values with a line of names first (RFC 4180).
    Csv,
}

/// A part of an export: its rows, and where the next part starts.
pub(super) struct Part<R> {
    /// The rows.
    pub(super) rows: Vec<R>,
    /// The cursor of the next part; none after the last.
    pub(super) next: Option<String>,
    /// What they are true of.
    pub(super) truth: Truth,
}

impl<R> Part<R> {
    /// A page of a list.
    pub(super) fn of<T>(answer: Answer<Listing<T>>, form: impl FnMut(T) -> R) -> Self {
        Self {
            truth: Truth::from(&answer),
            rows: answer.data.data.into_iter().map(form).collect(),
            next: answer.data.next_cursor,
        }
    }
}

/// A row of an export.
pub(super) trait Row: Serialize + Send + 'static {
    /// The columns' names in CSV.
    const COLUMNS: &'static [&'static str];

    /// The row's cells, in the order of the columns.
    fn cells(&self) -> Vec<String>;
}

/// Streams the parts that `read` gives, from the first on. The first is read before the answer begins, so that what
/// is wrong with the query is still a problem; a later failure breaks the transfer off. The answer tells what the
/// first part is true of; what comes into being meanwhile is newer than that, and not in it.
pub(super) async fn stream<R, F>(
    format: Format,
    name: &'static str,
    read: impl Fn(Option<String>) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    R: Row,
    F: Future<Output = Result<Part<R>, Problem>> + Send,
{
    let first = read(None).await?;
    let begin = encode(format, &first.rows, true)?;
    let parts = stream::try_unfold(
        (Some(begin), first.next, read),
        move |(ready, next, read)| async move {
            if let Some(bytes) = ready {
                return Ok(Some((bytes, (None, next, read))));
            }
            let Some(cursor) = next else { return Ok(None) };
            let part = read(Some(cursor)).await.map_err(|problem| broken(&problem))?;
            let bytes = encode(format, &part.rows, false).map_err(|problem| broken(&problem))?;
            Ok::<_, std::io::Error>(Some((bytes, (None, part.next, read))))
        },
    );
    let (media_type, ending) = match format {
        Format::Jsonl => ("application/jsonl", "jsonl"),
        Format::Csv => ("text/csv; charset=utf-8", "csv"),
    };
    let mut response = Response::new(Body::from_stream(parts));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Ok(file) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.{ending}\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, file);
    }
    Ok(first.truth.told_by(response))
}

fn broken(problem: &Problem) -> std::io::Error {
    tracing::error!(
        cause = problem.cause(),
        "an export was broken off: {}",
        problem.detail()
    );
    std::io::Error::other("the export was broken off")
}

fn encode<R: Row>(format: Format, rows: &[R], first: bool) -> Result<Bytes, Problem> {
    let mut text = String::new();
    if first && format == Format::Csv {
        text.push_str(&csv_line(R::COLUMNS));
    }
    for row in rows {
        match format {
            Format::Csv => text.push_str(&csv_line(&row.cells())),
            Format::Jsonl => {
                let line = serde_json::to_string(row).map_err(|error| {
                    Problem::caused(ProblemType::Internal, "A row cannot be written.", &error)
                })?;
                // Published data keeps its own line breaks, which JSON allows between tokens only.
                text.push_str(&line.replace(['\n', '\r'], " "));
                text.push('\n');
            }
        }
    }
    Ok(text.into())
}

/// What makes a spreadsheet take a cell for a formula (OWASP, CSV Injection).
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches('\'').starts_with(FORMULA)
}

/// The cell as a text to any spreadsheet: one that could be a formula begins with `'`, and so does one that begins
/// with `'` and goes on like a formula, so that it can be told.
fn guarded(cell: &str) -> Cow<'_, str> {
    if is_formula(cell) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

/// The cell that [`guarded`] wrote.
pub(super) fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'')
        .filter(|_| is_formula(cell))
        .unwrap_or(cell)
}

fn csv_line<T: AsRef<str>>(cells: &[T]) -> String {
    let quoted = |cell: &T| {
        let cell = guarded(cell.as_ref());
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.into_owned()
        }
    };
    let mut line = cells.iter().map(quoted).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_each_can_be_read_back() {
        for text in ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "'=1", "''=1"] {
            let cell = guarded(text);
            assert!(
                cell.starts_with('\'') && unguarded(&cell) == text,
                "{text:?}: {cell:?}"
            );
        }
        for text in ["", "a=1", "'", "'a", "1-1", "''"] {
            assert_eq!((&*guarded(text), unguarded(text)), (text, text));
        }
        assert_eq!(csv_line(&["=HYPERLINK(\"x\")"]), "\"'=HYPERLINK(\"\"x\"\")\"\r\n");
    }

    #[test]
    fn a_csv_cell_is_quoted_where_it_must_be() {
        assert_eq!(
            csv_line(&["a", "b,c", "d\"e", "f\ng", ""]),
            "a,\"b,c\",\"d\"\"e\",\"f\ng\",\r\n"
        );
    }
}
