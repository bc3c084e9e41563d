//! Searching the audit trail.
//!
//! A page reads one index from where it starts: that of the resource, the actor or the action, if the filter names one,
//! else that of the time. Whatever else is wanted is looked for among the entries on the way, and the way of one page
//! has an end ([`SCAN`]): a page can therefore hold fewer entries than asked for, or none, and still have a next one.

use domain::Timestamp;

use super::{Audit, AuditRow, NAME, Outcome, retention};
use crate::engine::Kind;
use crate::page::{Answer, Listing, Page, QueryError, containing};
use crate::read_models::Query;
use crate::sql::{Statement, number, time};

/// How many entries one page looks at, at most, where no index tells which are wanted.
pub(super) const SCAN: u64 = 5_000;

/// How much of a text is looked for, in characters: SQLite refuses patterns of more than 50,000 bytes.
const LONGEST_SEARCH: usize = 1_000;

/// The order of a list.
const ORDER: &str = " ORDER BY at DESC, shard DESC, sequence DESC, version DESC LIMIT ";

/// An entry's place in a list: its time, then its place in the log.
type Place = (i64, u16, u64, u64);

/// Which entries are wanted; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this actor, as [`AuditRow::actor`] shows it.
    pub actor: Option<String>,
    /// This action.
    pub action: Option<String>,
    /// On this resource: its id, its kind, or `kind/id`. What consists of a-z and `_` only is a kind.
    pub resource: Option<String>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// Decided at this time or later.
    pub since: Option<Timestamp>,
    /// Decided before this time.
    pub until: Option<Timestamp>,
    /// With this text in the data, action, command, actor or resource; a-z and A-Z count as the same. Only its first
    /// 1,000 characters count.
    pub q: Option<String>,
}

/// A filter, taken apart.
pub(super) struct Wanted<'f> {
    filter: &'f AuditFilter,
    kind: Option<&'f str>,
    id: Option<&'f str>,
}

impl AuditFilter {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        let is_kind = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let (kind, id) = match self.resource.as_deref() {
            None => (None, None),
            Some(resource) => match resource.split_once('/') {
                Some((kind, id)) => (Some(kind), Some(id)),
                None if is_kind(resource) => (Some(resource), None),
                None => (None, Some(resource)),
            },
        };
        Wanted {
            filter: self,
            kind,
            id,
        }
    }
}

impl Wanted<'_> {
    /// The columns that have an index, the most telling first.
    fn indexed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let columns = [
            ("resource_id", self.id),
            ("actor", self.filter.actor.as_deref()),
            ("action", self.filter.action.as_deref()),
        ];
        columns
            .into_iter()
            .filter_map(|(column, wanted)| Some((column, wanted?)))
    }

    /// Whether entries are looked for on the way along an index.
    fn looks(&self) -> bool {
        let indexed = self.indexed().count();
        indexed > 1 || self.kind.is_some() || self.filter.outcome.is_some() || self.filter.q.is_some()
    }

    /// What an index answers.
    fn drive(&self, select: &mut Statement) {
        if let Some((column, wanted)) = self.indexed().next() {
            select.push(&format!(" AND {column} = ")).bind(wanted);
        }
    }

    /// Where to begin and to end in the order of the list: one bound on each side, since SQLite takes another index
    /// where there are more. `oldest` is shown at all, `after` and `end` are places of this list.
    fn between(
        &self,
        select: &mut Statement,
        oldest: Option<Timestamp>,
        (after, end): (Option<Place>, Option<Place>),
    ) {
        match (after, self.filter.until) {
            (Some(after), until) if until.is_none_or(|until| after.0 < until.as_millis()) => {
                select.push(" AND (at, shard, sequence, version) < ");
                bind_place(select, after);
            }
            (_, Some(until)) => {
                select.push(" AND at < ").bind(until);
            }
            (_, None) => {}
        }
        if let Some(end) = end {
            select.push(" AND (at, shard, sequence, version) >= ");
            bind_place(select, end);
        } else if let Some(oldest) = oldest.max(self.filter.since) {
            select.push(" AND at >= ").bind(oldest);
        }
    }

    /// What has to be looked at entry by entry, all of it: for a list in another order than any index of these.
    pub(super) fn all(&self, select: &mut Statement, kind: Kind) {
        self.look(0, select, kind);
    }

    /// What has to be looked at entry by entry, without the first `driven` of the columns with an index.
    fn look(&self, driven: usize, select: &mut Statement, kind: Kind) {
        for (column, wanted) in self.indexed().skip(driven) {
            // As an expression no index has it, so that no database leaves the one whose order is read.
            select.push(&format!(" AND ({column} || '') = ")).bind(wanted);
        }
        if let Some(kind) = self.kind {
            select.push(" AND resource_type = ").bind(kind);
        }
        if let Some(outcome) = self.filter.outcome {
            select.push(" AND outcome = ").bind(outcome.as_str());
        }
        if let Some(q) = &self.filter.q {
            search(select, kind, q);
        }
    }
}

fn search(select: &mut Statement, kind: Kind, q: &str) {
    let q: String = q.chars().take(LONGEST_SEARCH).collect();
    let searched = "data || ' ' || action || ' ' || command || ' ' || actor || ' ' || resource_id";
    select
        .push(" AND ")
        .push(&kind.ascii_lower(&format!("({searched})")))
        .push(" LIKE ")
        .bind(containing(&q.to_ascii_lowercase()))
        .push(" ESCAPE '\\'");
}

/// Appends the place as the values of a row.
fn bind_place(select: &mut Statement, (at, shard, sequence, version): Place) {
    select.push("(").bind(at).push(", ").bind(shard);
    select
        .push(", ")
        .bind(sequence)
        .push(", ")
        .bind(version)
        .push(")");
}

impl Audit<'_> {
    /// The entries, newest first, in pages: see the module for how a page can be short. An export reads page after
    /// page.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Answer<Listing<AuditRow>>, QueryError> {
        let after: Option<Place> = page.after(NAME)?;
        let mut query = self.read_models.query(self.tenant, &[NAME]).await?;
        let wanted = filter.wanted();
        let oldest = retention::oldest_shown(&mut query, self.tenant).await?;
        let begin = |columns: &str, query: &Query, end: Option<Place>| {
            let mut select = Statement::new(format!(
                "SELECT {columns} FROM {} WHERE tenant = ",
                query.table(NAME)
            ));
            select.bind(self.tenant.as_str());
            wanted.drive(&mut select);
            wanted.between(&mut select, oldest, (after, end));
            select
        };
        let mut end = None;
        if wanted.looks() {
            let mut last = begin("at, shard, sequence, version", &query, None);
            last.push(ORDER).bind(1_u64).push(" OFFSET ").bind(SCAN - 1);
            end = query.rows(last).await?.first().map(place).transpose()?;
        }
        let mut select = begin("*", &query, end);
        wanted.look(1, &mut select, self.read_models.database.kind);
        select.push(ORDER).bind(page.size() as u64 + 1);
        let rows = query.rows(select).await?;
        let rows = rows.iter().map(AuditRow::read).collect::<Result<_, _>>()?;
        let key = |row: &AuditRow| -> Place {
            let position = row.position;
            (row.at.as_millis(), position.shard, position.sequence, row.version)
        };
        let listing = Listing::new(rows, page, NAME, key).or_go_on(NAME, end);
        query.answer(listing).await
    }
}

fn place(row: &sqlx::any::AnyRow) -> Result<Place, sqlx::Error> {
    Ok((
        time(row, "at")?.as_millis(),
        number(row, "shard")?,
        number(row, "sequence")?,
        number(row, "version")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_ids_are_told_apart() {
        let parts = |resource: &str| {
            let filter = AuditFilter {
                resource: Some(resource.to_owned()),
                ..AuditFilter::default()
            };
            let wanted = filter.wanted();
            (
                wanted.kind.map(str::to_owned),
                wanted.id.map(str::to_owned),
                wanted.looks(),
            )
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("user"), (some("user"), None, true));
        assert_eq!(parts("api_key"), (some("api_key"), None, true));
        let id = "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(parts(id), (None, some(id), false));
        assert_eq!(parts(&format!("user/{id}")), (some("user"), some(id), true));
    }

    #[test]
    fn the_most_telling_index_is_read() {
        let filter = AuditFilter {
            actor: Some("key_1".into()),
            action: Some("user.registered".into()),
            ..AuditFilter::default()
        };
        let wanted = filter.wanted();
        assert_eq!(wanted.indexed().next(), Some(("actor", "key_1")));
        assert!(wanted.looks(), "the action is looked for among the actor's");
        assert!(!AuditFilter::default().wanted().looks());
    }
}
