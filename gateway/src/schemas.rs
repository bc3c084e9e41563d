//! Checking events against the JSON Schemas of their types, whatever the schemas and the events are.
//!
//! A schema comes from a tenant, and compiling or applying one must neither reach outside nor take for ever:
//! * [`prepare`] takes the keywords known here, refuses references to anywhere else, and puts a meter before each
//!   subschema;
//! * [`meter`] counts steps and measures the stack, and breaks off what goes beyond;
//! * regular expressions are those of the `regex` crate, whose time grows linearly with the text.
//!
//! [`known`] keeps the compiled schemas of the types in use; [`places`] turns what a schema says no to into places in
//! the event, each with its reason.

mod known;
mod meter;
mod places;
mod prepare;

use std::thread;

use domain::event_type::{Dialect, Schema};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::problem::FieldError;

pub(crate) use known::{Schemas, Subject};
use meter::{METER, Meter, Stop};

/// The most places named in one answer.
pub(crate) const MAX_ERRORS: usize = 100;
/// The largest compiled regular expression, and its largest cache of transitions, in bytes.
const PATTERN_BYTES: usize = 256 * 1024;
/// What compiling may take of a stack: references are followed in depth, and a schema may consist of them.
const COMPILER_STACK: usize = 256 * 1024 * 1024;

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct Checker {
    validator: Validator,
    weight: u32,
}

/// What a schema says of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It fits.
    Fits,
    /// It does not; each place and what is wrong there, at most [`MAX_ERRORS`].
    Violates(Vec<FieldError>),
    /// Finding out takes more steps than were allowed.
    Exhausted,
}

impl Checker {
    /// Compiles a schema; the errors name the places in it that are wrong.
    ///
    /// Blocks for as long as compiling takes: milliseconds.
    pub(crate) fn compile(schema: &Schema) -> Result<Self, Vec<FieldError>> {
        let failed = |message: &str| vec![places::error("schema", message)];
        let compiled = thread::scope(|scope| {
            let compiler = thread::Builder::new()
                .name("schema compiler".to_owned())
                .stack_size(COMPILER_STACK)
                .spawn_scoped(scope, || compile(schema));
            compiler.map(thread::ScopedJoinHandle::join)
        });
        match compiled {
            Ok(Ok(checker)) => checker,
            Ok(Err(_)) => Err(failed("cannot be compiled")),
            Err(error) => {
                tracing::error!(%error, "no thread can be started to compile a schema");
                Err(failed("cannot be compiled at the moment; send it again"))
            }
        }
    }

    /// Checks a value in at most so many steps, and answers how many of them are left.
    ///
    /// `name` is what the value is called in the errors, as `data`.
    pub(crate) fn check(&self, value: &Value, name: &str, steps: u64) -> (Verdict, u64) {
        let (valid, left) = meter::run(steps, || self.validator.is_valid(value));
        match valid {
            Ok(true) => (Verdict::Fits, left),
            Ok(false) => {
                let find = || places::of_all(self.validator.iter_errors(value), value, name);
                match meter::run(left, find) {
                    (Ok(errors), left) => (Verdict::Violates(errors), left),
                    (Err(Stop), left) => (Verdict::Exhausted, left),
                }
            }
            Err(Stop) => (Verdict::Exhausted, left),
        }
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }
}

fn compile(schema: &Schema) -> Result<Checker, Vec<FieldError>> {
    let value = schema.as_value();
    let draft = match schema.dialect() {
        Dialect::Draft202012 => Draft::Draft202012,
        Dialect::Draft7 => Draft::Draft7,
    };
    let meta = match draft {
        Draft::Draft7 => jsonschema::draft7::meta::validator(),
        _ => jsonschema::draft202012::meta::validator(),
    };
    let errors = places::of_all(meta.iter_errors(value), value, "schema");
    if !errors.is_empty() {
        return Err(errors);
    }
    let prepared = prepare::prepare(schema)?;
    let limits = PatternOptions::regex()
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES);
    let validator = jsonschema::options()
        .with_draft(draft)
        .offline()
        .with_pattern_options(limits)
        .should_validate_formats(true)
        .with_keyword(METER, |_, value, _| Ok(Box::new(Meter::of(value))))
        .build(&prepared.schema)
        .map_err(|error| vec![places::of_compiling(&error)])?;
    let text = u32::try_from(value.to_string().len()).unwrap_or(u32::MAX);
    Ok(Checker {
        validator,
        weight: text
            .saturating_mul(16)
            .saturating_add(prepared.patterns.saturating_mul(64 * 1024)),
    })
}

#[cfg(test)]
mod tests;
