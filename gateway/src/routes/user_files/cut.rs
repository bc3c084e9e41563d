//! Cuts a body into rows as it arrives: CSV (RFC 4180, commas, quotes where needed) or JSON lines.
//!
//! A row that cannot be read is answered as such, and the next one begins on the next line: one forgotten quote costs
//! its line, not the file. Never more than one row is kept.

use std::io;

use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

/// The most bytes of one row.
pub(crate) const MAX_ROW: usize = 64 * 1024;

/// How much of a broken row is shown.
const EXCERPT: usize = 120;

/// What some spreadsheets write first: the byte order mark.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Comma-separated values with a line of names first.
    Csv,
    /// One JSON object per line.
    Lines,
}

/// One row of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// The cells of a row of CSV.
    Cells(Vec<String>),
    /// A line.
    Line(String),
}

/// A row that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// What is wrong with it.
    pub(crate) message: String,
    /// How it begins.
    pub(crate) excerpt: String,
}

/// Cuts a body of one form.
#[derive(Debug)]
pub(crate) struct Cutter {
    form: Form,
    begun: bool,
    /// The rest of a broken row's first line is still to come.
    skipping: bool,
}

/// What the beginning of the buffer is.
enum Scan {
    /// Too little to tell.
    More,
    /// A row of so many bytes.
    Row(Vec<Vec<u8>>, usize),
    Broken(&'static str),
}

impl Cutter {
    /// For a body of this form.
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            begun: false,
            skipping: false,
        }
    }

    fn cut(&mut self, buffer: &mut BytesMut, ended: bool) -> Option<Result<Row, Broken>> {
        if !self.begun {
            if buffer.len() < MARK.len() && !ended {
                return None;
            }
            self.begun = true;
            if buffer.starts_with(MARK) {
                buffer.advance(MARK.len());
            }
        }
        loop {
            if self.skipping {
                self.skipping = !skip_line(buffer);
                if self.skipping {
                    return None;
                }
            }
            if buffer.is_empty() {
                return None;
            }
            let scan = match self.form {
                Form::Csv => cells(buffer, ended),
                Form::Lines => line(buffer, ended),
            };
            let (cells, length) = match scan {
                Scan::Row(cells, length) if length <= MAX_ROW => (cells, length),
                Scan::More if buffer.len() <= MAX_ROW => return None,
                // Its line is shown, so it is waited for.
                Scan::Broken(_) if !ended && buffer.len() <= MAX_ROW && !buffer.contains(&b'\n') => {
                    return None;
                }
                Scan::Row(..) | Scan::More => {
                    return Some(Err(
                        self.broken(buffer, "is longer than 65,536 bytes, or a quote is not closed")
                    ));
                }
                Scan::Broken(message) => return Some(Err(self.broken(buffer, message))),
            };
            let blank = cells.iter().all(|cell| cell.trim_ascii().is_empty());
            if !(blank && cells.len() == 1) {
                let row = self.row(cells);
                let row = row.map_err(|()| broken(buffer, "is not UTF-8"));
                buffer.advance(length);
                return Some(row);
            }
            buffer.advance(length);
        }
    }

    fn row(&self, cells: Vec<Vec<u8>>) -> Result<Row, ()> {
        let mut texts = Vec::with_capacity(cells.len());
        for cell in cells {
            texts.push(String::from_utf8(cell).map_err(drop)?);
        }
        Ok(match self.form {
            Form::Csv => Row::Cells(texts),
            Form::Lines => Row::Line(texts.pop().unwrap_or_default()),
        })
    }

    /// Gives up the line that the buffer begins with.
    fn broken(&mut self, buffer: &mut BytesMut, message: &str) -> Broken {
        let broken = broken(buffer, message);
        self.skipping = !skip_line(buffer);
        broken
    }
}

fn broken(bytes: &[u8], message: &str) -> Broken {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let excerpt = String::from_utf8_lossy(&line[..line.len().min(EXCERPT)]);
    Broken {
        message: message.to_owned(),
        excerpt: excerpt.trim().to_owned(),
    }
}

/// Takes away what is left of a line; false where its end is still to come.
fn skip_line(buffer: &mut BytesMut) -> bool {
    let end = buffer.iter().position(|byte| *byte == b'\n');
    buffer.advance(end.map_or(buffer.len(), |end| end + 1));
    end.is_some()
}

fn line(bytes: &[u8], ended: bool) -> Scan {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => Scan::Row(vec![without_return(&bytes[..end]).to_vec()], end + 1),
        None if ended => Scan::Row(vec![without_return(bytes).to_vec()], bytes.len()),
        None => Scan::More,
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn cells(bytes: &[u8], ended: bool) -> Scan {
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        let cell = if bytes.get(at) == Some(&b'"') {
            quoted(bytes, at + 1, ended)
        } else {
            plain(bytes, at, ended)
        };
        let (cell, end) = match cell {
            Cell::Whole(cell, end) => (cell, end),
            Cell::More => return Scan::More,
            Cell::Broken(message) => return Scan::Broken(message),
        };
        cells.push(cell);
        match &bytes[end..] {
            [b',', ..] => at = end + 1,
            [b'\n', ..] => return Scan::Row(cells, end + 1),
            [b'\r', b'\n', ..] => return Scan::Row(cells, end + 2),
            [b'\r'] if ended => return Scan::Row(cells, end + 1),
            [b'\r'] => return Scan::More,
            [] => return Scan::Row(cells, end),
            _ => return Scan::Broken("something other than a comma follows a closing quote"),
        }
    }
}

/// A cell and the place after it.
enum Cell {
    Whole(Vec<u8>, usize),
    More,
    Broken(&'static str),
}

fn plain(bytes: &[u8], start: usize, ended: bool) -> Cell {
    let ends = |byte: &u8| matches!(byte, b',' | b'\n' | b'"');
    let end = match bytes[start..].iter().position(ends) {
        Some(length) => start + length,
        None if ended => bytes.len(),
        None => return Cell::More,
    };
    match bytes.get(end) {
        Some(b'"') => Cell::Broken("a quote stands in a cell that does not begin with one"),
        Some(b',') => Cell::Whole(bytes[start..end].to_vec(), end),
        _ => Cell::Whole(without_return(&bytes[start..end]).to_vec(), end),
    }
}

/// A cell after its opening quote; two quotes inside stand for one.
fn quoted(bytes: &[u8], start: usize, ended: bool) -> Cell {
    let (mut cell, mut at) = (Vec::new(), start);
    loop {
        let Some(length) = bytes[at..].iter().position(|byte| *byte == b'"') else {
            return if ended {
                Cell::Broken("a quote is not closed")
            } else {
                Cell::More
            };
        };
        cell.extend_from_slice(&bytes[at..at + length]);
        at += length + 1;
        match bytes.get(at) {
            Some(b'"') => cell.push(b'"'),
            None if !ended => return Cell::More,
            _ => return Cell::Whole(cell, at),
        }
        at += 1;
    }
}

impl Decoder for Cutter {
    type Item = Result<Row, Broken>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(self.cut(buffer, false))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(self.cut(buffer, true))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// All rows of a body that arrives in pieces of this size.
    fn rows(form: Form, body: &[u8], piece: usize) -> Vec<Result<Row, String>> {
        let mut cutter = Cutter::new(form);
        let (mut buffer, mut rows) = (BytesMut::new(), Vec::new());
        for part in body.chunks(piece) {
            buffer.extend_from_slice(part);
            while let Some(row) = cutter.decode(&mut buffer).unwrap() {
                rows.push(row);
            }
        }
        while let Some(row) = cutter.decode_eof(&mut buffer).unwrap() {
            rows.push(row);
        }
        assert!(buffer.is_empty());
        let rows = rows.into_iter().map(|row| row.map_err(|broken| broken.excerpt));
        rows.collect()
    }

    fn csv(body: &[u8]) -> Vec<Result<Vec<String>, String>> {
        let whole = rows(Form::Csv, body, usize::MAX);
        for piece in [1, 2, 3, 7] {
            assert_eq!(rows(Form::Csv, body, piece), whole, "in pieces of {piece}");
        }
        let cells = whole.into_iter().map(|row| {
            row.map(|row| match row {
                Row::Cells(cells) => cells,
                Row::Line(line) => vec![line],
            })
        });
        cells.collect()
    }

    /// The cells of a row, or how a refused one begins.
    type Read<'a> = Result<&'a [&'a str], &'a str>;

    fn check(body: &[u8], wanted: &[Read<'_>]) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|row| {
                let cells = row.map(|cells| cells.iter().map(ToString::to_string).collect());
                cells.map_err(ToString::to_string)
            })
            .collect();
        assert_eq!(csv(body), wanted);
    }

    #[test]
    fn cells_are_read_as_they_were_written() {
        let body = "\u{feff}a,b\r\n\"1,2\",\"say \"\"hi\"\"\"\n\n\"two\nlines\",\r\n,\"\"\nlast,ä";
        let wanted = [
            Ok(["a", "b"].as_slice()),
            Ok(["1,2", "say \"hi\""].as_slice()),
            Ok(["two\nlines", ""].as_slice()),
            Ok(["", ""].as_slice()),
            Ok(["last", "ä"].as_slice()),
        ];
        check(body.as_bytes(), &wanted);
    }

    #[test]
    fn a_broken_row_costs_its_line() {
        let body = b"a,b\nx\"y,1\n\"x\"y,1\n\xff\xfe,1\nc,d\n\"open,1\ne,f\n";
        let wanted = [
            Ok(["a", "b"].as_slice()),
            Err("x\"y,1"),
            Err("\"x\"y,1"),
            Err("\u{fffd}\u{fffd},1"),
            Ok(["c", "d"].as_slice()),
            Err("\"open,1"),
            Ok(["e", "f"].as_slice()),
        ];
        check(body, &wanted);
    }

    #[test]
    fn a_row_that_is_too_long_is_passed_over() {
        let long = "x".repeat(MAX_ROW + 1);
        for (form, open) in [(Form::Csv, ""), (Form::Lines, ""), (Form::Csv, "\"")] {
            let body = format!("a\n{open}{long}\nb\n");
            for piece in [1_000, 8_192, usize::MAX] {
                let rows = rows(form, body.as_bytes(), piece);
                assert_eq!(rows.len(), 3, "{form:?} {open:?} {piece}");
                assert!(rows[0].is_ok() && rows[1].is_err() && rows[2].is_ok());
            }
        }
        let most = "x".repeat(MAX_ROW - 1);
        assert_eq!(csv(format!("{most}\nb\n").as_bytes()).len(), 2);
    }

    /// A row as it would be written, every cell in quotes.
    fn written(cells: &[String]) -> String {
        let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        cells.iter().map(quoted).collect::<Vec<_>>().join(",")
    }

    proptest! {
        /// Any bytes are cut in the same way however they arrive, and what was read as a row is one when it is written.
        #[test]
        fn any_bytes_are_rows_or_refused(
            any in vec(any::<u8>(), 0..200),
            likely in "[a-c,\"\r\n \u{feff}]{0,60}",
            piece in 1_usize..20,
        ) {
            for body in [any.as_slice(), likely.as_bytes()] {
                for form in [Form::Csv, Form::Lines] {
                    let whole = rows(form, body, usize::MAX);
                    prop_assert_eq!(&rows(form, body, piece), &whole);
                    for row in whole.into_iter().flatten() {
                        if let Row::Cells(cells) = row {
                            let again = rows(Form::Csv, written(&cells).as_bytes(), usize::MAX);
                            prop_assert_eq!(again, vec![Ok(Row::Cells(cells))]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn lines_are_taken_as_they_are() {
        let body = b"{\"a\":\"\\n\"}\r\n\n  \n{\"b\":1}";
        let wanted = ["{\"a\":\"\\n\"}", "{\"b\":1}"].map(|line| Ok(Row::Line(line.to_owned())));
        assert_eq!(rows(Form::Lines, body, 3), wanted);
    }
}
