//! Rows on their way through a fold: read when they are asked for, changed in memory, written in bulk.
//!
//! A fold never speaks SQL. It asks [`Rows`] for the rows it needs and says what becomes of them; what it said is
//! written at the end of the batch, in the transaction that moves the checkpoint. The same fold is therefore quick
//! with a batch of one record and with one of thousands, and a rebuild is an ordinary fold with large batches whose
//! rows stay in memory from batch to batch.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::Session;
use crate::table::{Growth, Key, Row, Table};

/// What a fold has to do with one table.
#[derive(Debug)]
struct Shelf {
    table: &'static Table,
    /// Rows as they are in the database, or that there is none.
    held: BTreeMap<Key, Option<Row>>,
    /// What this batch makes of rows; none where it removes one.
    changed: BTreeMap<Key, Option<Row>>,
    /// Rows this batch adds.
    added: Vec<Row>,
    /// Sums this batch adds.
    summed: BTreeMap<Key, Vec<i64>>,
}

impl Shelf {
    fn new(table: &'static Table) -> Self {
        Self {
            table,
            held: BTreeMap::new(),
            changed: BTreeMap::new(),
            added: Vec::new(),
            summed: BTreeMap::new(),
        }
    }

    fn seen(&self, key: &Key) -> Option<&Option<Row>> {
        self.changed.get(key).or_else(|| self.held.get(key))
    }
}

/// What a batch makes of one table.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) table: &'static Table,
    /// Rows to insert where none is, as far as is known.
    pub(crate) new: Vec<Row>,
    /// Rows to put in the place of those under their keys, or where none is.
    pub(crate) put: Vec<Row>,
    /// Keys of rows to remove.
    pub(crate) removed: Vec<Key>,
    /// Rows to add, or to sum up, as the table's growth says.
    pub(crate) added: Vec<Row>,
}

/// The rows a fold holds, from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Store {
    shelves: BTreeMap<&'static str, Shelf>,
    /// About how much memory the held rows take, in bytes.
    held: usize,
    /// Whether every row there is is held, so that none needs to be looked for.
    whole: bool,
}

impl Store {
    /// Of tables that are empty.
    pub(crate) fn of_nothing() -> Self {
        Self {
            whole: true,
            ..Self::default()
        }
    }

    /// Forgets what the batch changed.
    fn undo(&mut self) {
        for shelf in self.shelves.values_mut() {
            shelf.changed.clear();
            shelf.added.clear();
            shelf.summed.clear();
        }
    }

    /// About how much memory the held rows take, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Forgets the rows held; only once everything taken has been written.
    pub(crate) fn forget(&mut self) {
        self.held = 0;
        self.whole = false;
        for shelf in self.shelves.values_mut() {
            shelf.held.clear();
        }
    }

    /// Takes what the batch changed, to be written; the rows are held as they will be then.
    pub(crate) fn take(&mut self) -> Vec<Changes> {
        let mut all = Vec::new();
        for shelf in self.shelves.values_mut() {
            let mut changes = Changes {
                table: shelf.table,
                new: Vec::new(),
                put: Vec::new(),
                removed: Vec::new(),
                added: std::mem::take(&mut shelf.added),
            };
            for (key, row) in std::mem::take(&mut shelf.changed) {
                let absent = match shelf.held.get(&key) {
                    Some(before) => before.is_none(),
                    None => self.whole,
                };
                match &row {
                    Some(row) if absent => changes.new.push(row.clone()),
                    Some(row) => changes.put.push(row.clone()),
                    None if absent => {}
                    None => changes.removed.push(key.clone()),
                }
                self.held += size(&key, row.as_ref());
                if let Some(before) = shelf.held.insert(key.clone(), row) {
                    self.held = self.held.saturating_sub(size(&key, before.as_ref()));
                }
            }
            for (mut key, sums) in std::mem::take(&mut shelf.summed) {
                key.extend(sums.into_iter().map(Into::into));
                changes.added.push(key);
            }
            if !(changes.new.is_empty()
                && changes.put.is_empty()
                && changes.removed.is_empty()
                && changes.added.is_empty())
            {
                all.push(changes);
            }
        }
        all
    }

    fn shelf(&mut self, table: &'static Table) -> &mut Shelf {
        self.shelves
            .entry(table.name)
            .or_insert_with(|| Shelf::new(table))
    }

    fn hold(&mut self, table: &'static Table, key: Key, row: Option<Row>) {
        self.held += size(&key, row.as_ref());
        self.shelf(table).held.insert(key, row);
    }
}

fn size(key: &Key, row: Option<&Row>) -> usize {
    let row = row.into_iter().flatten();
    key.iter().chain(row).map(crate::Value::size).sum::<usize>() + 64
}

/// A fold's way to its tables.
#[derive(Debug)]
pub struct Rows<'r> {
    store: &'r mut Store,
    session: &'r mut Session,
    suffix: &'r str,
}

impl<'r> Rows<'r> {
    /// Rows of the tables whose names end in `suffix`, read through `session`.
    pub(crate) fn new(store: &'r mut Store, session: &'r mut Session, suffix: &'r str) -> Self {
        Self {
            store,
            session,
            suffix,
        }
    }

    /// Forgets what the batch changed.
    pub(crate) fn undo(&mut self) {
        self.store.undo();
    }

    /// Reads the rows under these keys, so that asking for one costs nothing; for tables of [`Growth::Kept`].
    pub async fn load(
        &mut self,
        table: &'static Table,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<(), sqlx::Error> {
        let shelf = self.store.shelf(table);
        let unknown: BTreeSet<Key> = keys.into_iter().filter(|key| shelf.seen(key).is_none()).collect();
        if unknown.is_empty() || self.store.whole {
            return Ok(());
        }
        let unknown: Vec<Key> = unknown.into_iter().collect();
        let found = self.session.find(table, self.suffix, &unknown).await?;
        for key in unknown {
            self.store.hold(table, key, None);
        }
        for row in found {
            self.store.hold(table, table.key_of(&row), Some(row));
        }
        Ok(())
    }

    /// The row under a key, as the batch has made it so far.
    pub async fn get(&mut self, table: &'static Table, key: Key) -> Result<Option<Row>, sqlx::Error> {
        if let Some(row) = self.store.shelf(table).seen(&key) {
            return Ok(row.clone());
        }
        self.load(table, [key.clone()]).await?;
        Ok(self.store.shelf(table).seen(&key).cloned().flatten())
    }

    /// All rows whose key begins so, in the order of their keys, as the batch has made them so far.
    pub async fn under(&mut self, table: &'static Table, prefix: Key) -> Result<Vec<Row>, sqlx::Error> {
        let found = if self.store.whole {
            Vec::new()
        } else {
            self.session.under(table, self.suffix, &prefix).await?
        };
        for row in found {
            let key = table.key_of(&row);
            if !self.store.shelf(table).held.contains_key(&key) {
                self.store.hold(table, key, Some(row));
            }
        }
        let shelf = self.store.shelf(table);
        let mut rows: BTreeMap<&Key, &Option<Row>> = BTreeMap::new();
        for known in [&shelf.held, &shelf.changed] {
            let from_prefix = known.range(prefix.clone()..);
            rows.extend(from_prefix.take_while(|(key, _)| key.starts_with(&prefix)));
        }
        Ok(rows.into_values().flatten().cloned().collect())
    }

    /// Puts a row in the place of the one under its key, or where none was; for tables of [`Growth::Kept`].
    pub fn put(&mut self, table: &'static Table, row: Row) {
        debug_assert_eq!(table.growth, Growth::Kept, "{} is not kept", table.name);
        let key = table.key_of(&row);
        self.store.shelf(table).changed.insert(key, Some(row));
    }

    /// Removes the row under a key, if there is one; for tables of [`Growth::Kept`].
    pub fn remove(&mut self, table: &'static Table, key: Key) {
        debug_assert_eq!(table.growth, Growth::Kept, "{} is not kept", table.name);
        self.store.shelf(table).changed.insert(key, None);
    }

    /// Adds a row, or adds to the sums under its key, as the table's growth says.
    pub fn add(&mut self, table: &'static Table, row: Row) {
        debug_assert_ne!(table.growth, Growth::Kept, "{} is kept: put it", table.name);
        let shelf = self.store.shelf(table);
        if table.growth != Growth::Summed {
            shelf.added.push(row);
            return;
        }
        let by = row
            .iter()
            .skip(table.key)
            .map(|value| value.as_int().unwrap_or_default());
        let by: Vec<i64> = by.collect();
        let mut key = row;
        key.truncate(table.key);
        match shelf.summed.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(by);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                for (sum, by) in entry.get_mut().iter_mut().zip(by) {
                    *sum += by;
                }
            }
        }
    }
}
