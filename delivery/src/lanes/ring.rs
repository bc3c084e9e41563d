//! Whose turn it is: tenants one after the other, and within a tenant its lanes one after the other, so that a tenant
//! with a thousand busy endpoints has no more turns than one with a single.

use std::collections::{HashMap, VecDeque};

use broker::Token;

/// Lanes that could begin a try.
#[derive(Debug, Default)]
pub(super) struct Ring {
    tenants: VecDeque<Token>,
    lanes: HashMap<Token, VecDeque<Token>>,
}

impl Ring {
    /// Puts a lane at the end of its tenant's.
    pub(super) fn push(&mut self, tenant: &Token, lane: Token) {
        let lanes = self.lanes.entry(tenant.clone()).or_default();
        if lanes.is_empty() {
            self.tenants.push_back(tenant.clone());
        }
        lanes.push_back(lane);
    }

    /// Takes the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Token> {
        let tenant = self.tenants.pop_front()?;
        let lanes = self.lanes.get_mut(&tenant)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&tenant);
        } else {
            self.tenants.push_back(tenant);
        }
        lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::token;

    #[test]
    fn tenants_take_turns_whatever_they_have_waiting() {
        let mut ring = Ring::default();
        for lane in ["a1", "a2", "a3"] {
            ring.push(&token("a"), token(lane));
        }
        ring.push(&token("b"), token("b1"));
        let mut turns: Vec<String> = Vec::new();
        turns.extend(ring.pop().map(|lane| lane.to_string()));
        ring.push(&token("b"), token("b2"));
        turns.extend(std::iter::from_fn(|| ring.pop()).map(|lane| lane.to_string()));
        assert_eq!(turns, ["a1", "b1", "a2", "b2", "a3"]);
        assert!(ring.lanes.is_empty() && ring.tenants.is_empty());
    }
}
