//! What a projection's tables look like: their columns and key, and how their rows come and go.

use crate::sql::Value;

/// A row: a value for each column, in the table's order.
pub type Row = Vec<Value>;

/// What names a row: the values of its first columns.
pub type Key = Vec<Value>;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Unicode text.
    Text,
    /// An integer of 64 bits.
    Int,
    /// Bytes.
    Bytes,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// What it is called.
    pub name: &'static str,
    /// What it holds; any column outside the key may be NULL if its migration allows that.
    pub holds: Type,
}

impl Column {
    /// A column of text.
    pub const fn text(name: &'static str) -> Self {
        Self {
            name,
            holds: Type::Text,
        }
    }

    /// A column of integers.
    pub const fn int(name: &'static str) -> Self {
        Self {
            name,
            holds: Type::Int,
        }
    }

    /// A column of bytes.
    pub const fn bytes(name: &'static str) -> Self {
        Self {
            name,
            holds: Type::Bytes,
        }
    }

    fn null(self) -> Value {
        match self.holds {
            Type::Text => Value::Text(None),
            Type::Int => Value::Int(None),
            Type::Bytes => Value::Bytes(None),
        }
    }
}

/// How the rows of a table come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// They are read, changed and removed by their keys.
    Kept,
    /// They are only ever added, each under a key of its own.
    Added,
    /// They are only ever added; where the key is there already, the first row stays.
    First,
    /// The columns after the key are sums, and what is added is added up.
    Summed,
}

/// A table of a projection, as its migration makes it.
#[derive(Debug)]
pub struct Table {
    /// What it is called; copies have a suffix (`users_g7`).
    pub name: &'static str,
    /// How many of the first columns are the primary key.
    pub key: usize,
    /// All its columns, those of the key first.
    pub columns: &'static [Column],
    /// How its rows come and go.
    pub growth: Growth,
}

impl Table {
    /// A row of named values; columns that are not named are NULL. A name that no column has is a fault of the fold,
    /// which its first test shows.
    pub fn row(&self, values: Vec<(&'static str, Value)>) -> Row {
        let mut row: Row = self.columns.iter().map(|column| column.null()).collect();
        for (name, value) in values {
            self.set(&mut row, name, value);
        }
        row
    }

    /// Changes one value of a row.
    pub fn set(&self, row: &mut Row, name: &str, value: Value) {
        let place = self.place(name).and_then(|place| row.get_mut(place));
        debug_assert!(place.is_some(), "{} has no column {name}", self.name);
        if let Some(place) = place {
            *place = value;
        }
    }

    /// One value of a row.
    pub fn get<'r>(&self, row: &'r Row, name: &str) -> Option<&'r Value> {
        let place = self.place(name);
        debug_assert!(place.is_some(), "{} has no column {name}", self.name);
        place.and_then(|place| row.get(place))
    }

    /// A text of a row; empty where there is none.
    pub fn text<'r>(&self, row: &'r Row, name: &str) -> &'r str {
        self.get(row, name).and_then(Value::as_text).unwrap_or_default()
    }

    /// An integer of a row; 0 where there is none.
    pub fn int(&self, row: &Row, name: &str) -> i64 {
        self.get(row, name).and_then(Value::as_int).unwrap_or_default()
    }

    /// What names a row.
    pub fn key_of(&self, row: &Row) -> Key {
        row.iter().take(self.key).cloned().collect()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The names of the columns, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|column| column.name)
    }

    /// The columns of the key.
    pub(crate) fn key_columns(&self) -> &'static [Column] {
        self.columns.split_at(self.key.min(self.columns.len())).0
    }

    /// The columns after the key.
    pub(crate) fn value_columns(&self) -> &'static [Column] {
        self.columns.split_at(self.key.min(self.columns.len())).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        name: "things",
        key: 2,
        columns: &[Column::text("tenant"), Column::text("id"), Column::int("size")],
        growth: Growth::Kept,
    };

    #[test]
    fn a_row_is_made_of_named_values() {
        let mut row = TABLE.row(vec![("id", "a".into()), ("tenant", "t".into())]);
        assert_eq!(row, ["t".into(), "a".into(), Value::Int(None)]);
        TABLE.set(&mut row, "size", 7_i64.into());
        assert_eq!((TABLE.int(&row, "size"), TABLE.text(&row, "id")), (7, "a"));
        assert_eq!(TABLE.key_of(&row), ["t".into(), "a".into()]);
    }
}
