//! The meter: counts what checking a value costs, and breaks it off where that is too much.
//!
//! The meter stands before each subschema as a keyword of its own. The library offers no way to stop it, so the meter
//! unwinds through it: nothing there is changed by checking, and a compiled schema is as good afterwards as before.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::{Keyword, ValidationError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The keyword that holds a [`Meter`].
pub(super) const METER: &str = "tidings:meter";

/// How much of the stack a check may take, in bytes: half of what the threads of the service have.
const STACK: usize = 1024 * 1024;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static BASE: Cell<usize> = const { Cell::new(0) };
}

/// The check was broken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stop;

/// What it costs to apply a subschema, its children's own costs left out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meter {
    /// For every value.
    pub(super) once: u64,
    /// For each byte of a text.
    pub(super) per_byte: u64,
    /// For each property of an object.
    pub(super) per_property: u64,
    /// Whether arrays and objects are compared as a whole.
    pub(super) compares: bool,
}

impl Meter {
    /// As [`super::prepare`] wrote it into the schema.
    pub(super) fn of(value: &Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }

    fn cost(&self, instance: &Value) -> u64 {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let inside = match instance {
            Value::String(text) => self.per_byte.saturating_mul(count(text.len())),
            Value::Array(items) => count(items.len()),
            Value::Object(fields) => count(fields.len()).saturating_mul(1 + self.per_property),
            _ => 0,
        };
        let whole = if self.compares { size(instance) } else { 0 };
        self.once.saturating_add(inside).saturating_add(whole)
    }

    fn charge(&self, instance: &Value) {
        let here = 0_u8;
        let used = BASE.get().abs_diff(std::ptr::from_ref(&here).addr());
        let left = STEPS.get().checked_sub(self.cost(instance));
        match left {
            Some(left) if used <= STACK => STEPS.set(left),
            _ => {
                STEPS.set(0);
                // Not a panic: no hook is called and nothing is printed.
                resume_unwind(Box::new(Stop));
            }
        }
    }
}

impl<'i> Keyword<'i> for Meter {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        self.charge(instance);
        Ok(())
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        self.charge(instance);
        true
    }
}

/// Runs a check under a meter that breaks it off after so many steps, and answers how many are left.
pub(super) fn run<T>(steps: u64, check: impl FnOnce() -> T) -> (Result<T, Stop>, u64) {
    let base = 0_u8;
    BASE.set(std::ptr::from_ref(&base).addr());
    STEPS.set(steps);
    let result = catch_unwind(AssertUnwindSafe(check));
    let left = STEPS.get();
    match result {
        Ok(checked) => (Ok(checked), left),
        Err(payload) if is_stop(payload.as_ref()) => (Err(Stop), left),
        Err(payload) => resume_unwind(payload),
    }
}

fn is_stop(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Stop>()
}

/// How many values there are in a value, each text counted by its length too.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + text.len() as u64 / 16,
        Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<u64>(),
        _ => 1,
    }
}
