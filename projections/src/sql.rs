//! SQL for both engines: statements that collect their values, and reading rows back.
//!
//! Statements are text with `$1`, `$2`, … and values are texts, integers and bytes only, which both engines bind alike.
//! Names in the text are this crate's own, never a caller's: everything from outside is bound.

use std::fmt::Display;
use std::str::FromStr;

use domain::Timestamp;
use sqlx::any::AnyRow;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Database, Encode, IntoArguments, Row as _, Type};

/// A value of a column, or of a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A text, or NULL.
    Text(Option<String>),
    /// An integer, or NULL.
    Int(Option<i64>),
    /// Bytes, or NULL.
    Bytes(Option<Vec<u8>>),
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.as_deref(),
            Self::Int(_) | Self::Bytes(_) => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => *number,
            Self::Text(_) | Self::Bytes(_) => None,
        }
    }

    /// The bytes, if it is some.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => bytes.as_deref(),
            Self::Text(_) | Self::Int(_) => None,
        }
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let heap = match self {
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
            Self::Int(_) => 0,
        };
        size_of::<Self>() + heap
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl From<Option<String>> for Value {
    /// PostgreSQL cannot store a NUL character in a text; both engines keep the replacement character instead.
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(|text| {
            if text.contains('\0') {
                text.replace('\0', "\u{fffd}")
            } else {
                text
            }
        }))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Some(text).into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Some(text.to_owned()).into()
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Value {
    /// Sequences and versions stay far below 2^63.
    fn from(number: u64) -> Self {
        Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        i64::from(number).into()
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        i64::from(number).into()
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        time.as_millis().into()
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(time: Option<Timestamp>) -> Self {
        time.map(Timestamp::as_millis).into()
    }
}

/// A statement and the values of its placeholders.
#[derive(Debug, Clone)]
pub struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    /// Begins with this text.
    pub fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }

    /// Adds the value of the next placeholder, written in the text by the caller: the n-th call is `$n`.
    #[must_use]
    pub fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends text.
    pub fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends a placeholder and its value.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.sql.push('$');
        self.sql.push_str(&self.values.len().to_string());
        self
    }

    /// Appends `(…), (…)`: a placeholder for each value of each row.
    pub fn bind_rows(&mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> &mut Self {
        for (number, row) in rows.into_iter().enumerate() {
            self.push(if number == 0 { "(" } else { ", (" });
            for (number, value) in row.into_iter().enumerate() {
                if number > 0 {
                    self.push(", ");
                }
                self.bind(value);
            }
            self.push(")");
        }
        self
    }

    /// The same with another text, for the same values.
    #[cfg(feature = "unfiltered")]
    pub(crate) fn rewritten(mut self, rewrite: impl FnOnce(&str) -> String) -> Self {
        self.sql = rewrite(&self.sql);
        self
    }

    /// Runs it on a connection of queries and answers its rows.
    pub async fn rows(self, connection: &mut AnyConnection) -> Result<Vec<AnyRow>, sqlx::Error> {
        self.bound::<Any>().fetch_all(connection).await
    }

    /// The query of one engine's own kind.
    pub(crate) fn bound<D: Database>(self) -> Query<'static, D, D::Arguments>
    where
        D::Arguments: IntoArguments<D>,
        Option<String>: Encode<'static, D> + Type<D>,
        Option<i64>: Encode<'static, D> + Type<D>,
        Option<Vec<u8>>: Encode<'static, D> + Type<D>,
    {
        let query = sqlx::query(AssertSqlSafe(self.sql));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Int(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }
}

/// A text column.
pub(crate) fn text(row: &AnyRow, column: &str) -> Result<String, sqlx::Error> {
    row.try_get(column)
}

/// A text column that may be NULL.
pub(crate) fn optional_text(row: &AnyRow, column: &str) -> Result<Option<String>, sqlx::Error> {
    row.try_get(column)
}

/// A column of bytes.
pub(crate) fn bytes(row: &AnyRow, column: &str) -> Result<Vec<u8>, sqlx::Error> {
    row.try_get(column)
}

/// An integer column.
pub(crate) fn int(row: &AnyRow, column: &str) -> Result<i64, sqlx::Error> {
    row.try_get(column)
}

/// An integer column that may be NULL.
pub(crate) fn optional_int(row: &AnyRow, column: &str) -> Result<Option<i64>, sqlx::Error> {
    row.try_get(column)
}

/// An integer column, as the unsigned type it was written from.
pub(crate) fn number<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
    row: &AnyRow,
    column: &str,
) -> Result<T, sqlx::Error> {
    T::try_from(int(row, column)?).map_err(|error| unreadable(column, error))
}

/// A time, kept in milliseconds.
pub(crate) fn time(row: &AnyRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    Ok(Timestamp::from_millis(int(row, column)?))
}

/// A time that may be NULL.
pub(crate) fn optional_time(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(optional_int(row, column)?.map(Timestamp::from_millis))
}

/// A text column that has a type of the domain.
pub(crate) fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &AnyRow,
    column: &str,
) -> Result<T, sqlx::Error> {
    text(row, column)?
        .parse()
        .map_err(|error| unreadable(column, error))
}

/// A column that holds JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(&text(row, column)?).map_err(|error| unreadable(column, error))
}

/// A column that does not hold what this program writes into it.
pub(crate) fn unreadable(
    column: impl Display,
    error: impl std::error::Error + Send + Sync + 'static,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_string(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_across_rows() {
        let mut statement = Statement::new("INSERT INTO t VALUES ");
        statement.bind_rows([vec!["a".into(), 1_i64.into()], vec!["b\0".into(), 2_i64.into()]]);
        assert_eq!(statement.sql, "INSERT INTO t VALUES ($1, $2), ($3, $4)");
        assert_eq!(statement.values[2], Value::Text(Some("b\u{fffd}".into())));
    }
}
