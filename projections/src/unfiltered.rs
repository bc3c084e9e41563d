//! Queries without the program's own filter: for the tests that show that the database hides other tenants' rows by
//! itself. It is in no program that is shipped, which do without the feature.
//!
//! Whatever a query's statement asks of a tenant, `tenant = $1`, is made to hold for every row. All statements of
//! queries pass here, so a query that is added is in it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ReadModels;
use crate::sql::Statement;

/// What a condition on the tenant looks like, before the number of its value.
const CONDITION: &str = "tenant = $";

/// The statements that were run without their filter, as they were run; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    /// The statements so far.
    pub fn statements(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn unfiltered(&self, statement: Statement) -> Statement {
        statement.rewritten(|sql| {
            let sql = without_tenant(sql);
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(sql.clone());
            sql
        })
    }
}

impl ReadModels {
    /// The same read models, whose queries ask for every tenant's rows; and what they will have asked.
    #[must_use]
    pub fn unfiltered(&self) -> (Self, Seen) {
        let seen = Seen::default();
        let read_models = Self {
            seen: Some(seen.clone()),
            ..self.clone()
        };
        (read_models, seen)
    }
}

/// The statement with every condition on a tenant made true. Its value stays bound.
fn without_tenant(sql: &str) -> String {
    let (mut text, mut rest) = (String::new(), sql);
    while let Some(at) = rest.find(CONDITION) {
        let is_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '.' | '_');
        let (before, condition) = rest.split_at(at);
        let start = before.trim_end_matches(is_name).len();
        let number = condition.split_at(CONDITION.len()).1;
        let end = at
            + CONDITION.len()
            + (number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len());
        text.push_str(rest.get(..start).unwrap_or_default());
        text.push('(');
        text.push_str(rest.get(start..end).unwrap_or_default());
        text.push_str(" OR 1 = 1)");
        rest = rest.get(end..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_a_tenant_hold_for_every_row() {
        let sql = "SELECT 1 FROM a l WHERE l.tenant = $12 AND b = $2 AND EXISTS (SELECT 1 FROM c WHERE c.tenant = l.tenant AND tenant = $3)";
        assert_eq!(
            without_tenant(sql),
            "SELECT 1 FROM a l WHERE (l.tenant = $12 OR 1 = 1) AND b = $2 AND EXISTS (SELECT 1 FROM c WHERE \
             c.tenant = l.tenant AND (tenant = $3 OR 1 = 1))"
        );
        assert_eq!(without_tenant("SELECT 1"), "SELECT 1");
    }
}
