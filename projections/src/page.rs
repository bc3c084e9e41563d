//! What queries take and answer: pages, cursors, and the state of the read model an answer is true of.

mod cursor;

use domain::{Position, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::sql::Value;
use crate::table::{Column, Type};

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The cursor is not one that this list gave.
    #[error("this is not a cursor of this list")]
    BadCursor,
    /// The database failed.
    #[error("the read database is unavailable")]
    Unavailable(#[from] sqlx::Error),
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The most rows: 1 to [`Page::MAX`], by default [`Page::DEFAULT`]; other numbers count as the nearest.
    pub limit: Option<u32>,
    /// Where the page before ended, as its `next_cursor`; none for the first.
    pub cursor: Option<String>,
}

impl Page {
    /// How many rows a page has unless told otherwise.
    pub const DEFAULT: u32 = 50;
    /// The most rows a page can have.
    pub const MAX: u32 = 200;

    /// How many rows to answer.
    pub(crate) fn size(&self) -> usize {
        self.limit.unwrap_or(Self::DEFAULT).clamp(1, Self::MAX) as usize
    }

    /// The key the page starts after.
    pub(crate) fn after<K: DeserializeOwned>(&self, list: &str) -> Result<Option<K>, QueryError> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        cursor::decode(list, cursor)
            .map(Some)
            .ok_or(QueryError::BadCursor)
    }

    /// The key the page starts after, as a value for each of these columns: texts and integers. A key of one column
    /// may stand alone.
    pub(crate) fn after_key(&self, list: &str, columns: &[Column]) -> Result<Option<Vec<Value>>, QueryError> {
        let Some(key) = self.after::<Json>(list)? else {
            return Ok(None);
        };
        let parts = match key {
            Json::Array(parts) => parts,
            one => vec![one],
        };
        if parts.len() != columns.len() {
            return Err(QueryError::BadCursor);
        }
        let values = parts
            .iter()
            .zip(columns)
            .map(|(part, column)| match column.holds {
                Type::Text => part.as_str().map(Value::from),
                Type::Int => part.as_i64().map(Value::from),
                Type::Bytes => None,
            });
        let values: Option<Vec<Value>> = values.collect();
        values.map(Some).ok_or(QueryError::BadCursor)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing<T> {
    /// The rows, in the list's order.
    pub data: Vec<T>,
    /// Where the next page starts; none where this was the last.
    pub next_cursor: Option<String>,
}

impl<T> Listing<T> {
    /// Makes a page of one row more than it holds, if there is one more.
    pub(crate) fn new<K: Serialize>(
        mut rows: Vec<T>,
        page: &Page,
        list: &str,
        key: impl Fn(&T) -> K,
    ) -> Self {
        let more = rows.len() > page.size();
        rows.truncate(page.size());
        let last = rows.last().filter(|_| more);
        Self {
            next_cursor: last.and_then(|row| cursor::encode(list, &key(row))),
            data: rows,
        }
    }

    /// Where the list looked no further than this place, the next page goes on there.
    pub(crate) fn or_go_on<K: Serialize>(self, list: &str, place: Option<K>) -> Self {
        let place = place.filter(|_| self.next_cursor.is_none());
        match place.and_then(|place| cursor::encode(list, &place)) {
            Some(cursor) => Self {
                next_cursor: Some(cursor),
                ..self
            },
            None => self,
        }
    }
}

/// An answer, and the state of the read model it is true of.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// What was asked for.
    pub data: T,
    /// How far the read model had folded each log it follows.
    pub positions: Vec<Position>,
    /// When it was last known to miss nothing: how old the answer is. None where nothing was folded yet.
    pub fresh_at: Option<Timestamp>,
}

impl<T> Answer<T> {
    /// The same of a part of the data.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            data: map(self.data),
            positions: self.positions,
            fresh_at: self.fresh_at,
        }
    }
}

/// A text as a pattern of SQL's LIKE that finds it anywhere: its own `%`, `_` and `\` mean themselves.
pub(crate) fn containing(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cursor_continues_its_own_list_and_no_other() {
        let page = Page {
            limit: Some(2),
            cursor: None,
        };
        let listing = Listing::new(vec![1, 2, 3], &page, "numbers", |number| *number);
        assert_eq!(listing.data, [1, 2]);
        let next = Page {
            limit: Some(2),
            cursor: listing.next_cursor,
        };
        assert_eq!(next.after::<i32>("numbers").unwrap(), Some(2));
        assert!(matches!(next.after::<i32>("letters"), Err(QueryError::BadCursor)));
        assert!(matches!(
            next.after::<String>("numbers"),
            Err(QueryError::BadCursor)
        ));
        for text in ["", "x", "%%%", "bnVsbA"] {
            let page = Page {
                limit: None,
                cursor: Some(text.to_owned()),
            };
            assert!(
                matches!(page.after::<i32>("numbers"), Err(QueryError::BadCursor)),
                "{text:?}"
            );
        }
    }

    proptest! {
        /// Whatever a client sends as a cursor, it is a key of the types that the list has, or refused; and a cursor of
        /// the list with something changed in it leads to no other list.
        #[test]
        fn any_text_is_a_cursor_or_refused(
            text in any::<String>(),
            json in r#"\["(things|other)",(\[?(-?[0-9]{1,20}|"[a-z]{0,3}"|null|1e9),?(7|"b")?\]?)\]"#,
            place in any::<Index>(),
            by in any::<char>(),
        ) {
            const COLUMNS: [Column; 2] = [Column::int("sequence"), Column::text("id")];
            let valid = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&("things", (7, "a"))).unwrap());
            let mut characters: Vec<char> = valid.chars().collect();
            characters[place.index(valid.len())] = by;
            let spoilt = characters.into_iter().collect();
            for cursor in [text, URL_SAFE_NO_PAD.encode(json), valid, spoilt] {
                let page = Page {
                    limit: None,
                    cursor: Some(cursor),
                };
                if let Ok(key) = page.after_key("things", &COLUMNS) {
                    let key = key.unwrap();
                    prop_assert!(matches!(key[..], [Value::Int(_), Value::Text(_)]), "{key:?}");
                    prop_assert!(page.after_key("other", &COLUMNS).is_err());
                }
            }
        }
    }

    #[test]
    fn a_key_has_the_types_of_its_columns() {
        const ONE: [Column; 1] = [Column::text("id")];
        const TWO: [Column; 2] = [Column::int("sequence"), Column::text("id")];
        let after = |key: Json, columns: &[Column]| {
            let cursor = serde_json::to_vec(&("things", key)).unwrap();
            let page = Page {
                limit: None,
                cursor: Some(URL_SAFE_NO_PAD.encode(cursor)),
            };
            page.after_key("things", columns)
        };
        let one = Some(vec!["a".into()]);
        assert_eq!(after(json!("a"), &ONE).unwrap(), one);
        assert_eq!(after(json!(["a"]), &ONE).unwrap(), one);
        let two = Some(vec![7_i64.into(), "a".into()]);
        assert_eq!(after(json!([7, "a"]), &TWO).unwrap(), two);
        for (key, columns) in [
            (json!(7), &ONE[..]),
            (json!(["a", "b"]), &ONE),
            (json!(["a", 7]), &TWO),
            (json!([7.5, "a"]), &TWO),
            (json!([7, null]), &TWO),
            (json!([]), &TWO),
        ] {
            assert!(matches!(after(key, columns), Err(QueryError::BadCursor)));
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        let page = Page {
            limit: Some(2),
            cursor: None,
        };
        assert_eq!(
            Listing::new(vec![1, 2], &page, "numbers", |number| *number).next_cursor,
            None
        );
        let size = |limit| Page { limit, cursor: None }.size();
        assert_eq!((size(None), size(Some(0)), size(Some(5_000))), (50, 1, 200));
    }

    #[test]
    fn what_is_looked_for_is_never_a_pattern() {
        assert_eq!(containing(r"50%_a\b"), r"%50\%\_a\\b%");
    }
}
