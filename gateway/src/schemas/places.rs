//! Places in JSON for people and programs: `data.lines[3].amount`, each with what is wrong there.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::MAX_ERRORS;
use crate::problem::FieldError;

/// How long a message may be, in characters: a schema can list thousands of values.
const MESSAGE: usize = 200;
/// How long a path may be, in characters: its names are the event's own.
const PATH: usize = 500;

/// Every place that is wrong, each told once for each reason, at most [`MAX_ERRORS`].
pub(super) fn of_all<'e>(
    errors: impl Iterator<Item = ValidationError<'e>>,
    value: &Value,
    name: &str,
) -> Vec<FieldError> {
    let mut found: Vec<FieldError> = Vec::new();
    for error in errors.flat_map(|error| of(&error, value, name)) {
        if found.len() == MAX_ERRORS {
            break;
        }
        if !found.contains(&error) {
            found.push(error);
        }
    }
    found
}

/// What keeps a valid schema from being compiled.
pub(super) fn of_compiling(failure: &ValidationError<'_>) -> FieldError {
    let message = match failure.kind() {
        Kind::Format { format } if format == "regex" => {
            "has a regular expression that is not taken: at most 256 KiB compiled, without look-around and back-references"
                .to_owned()
        }
        _ => format!("cannot be compiled: {}", failure.masked_with("a value")),
    };
    error("schema", &message)
}

/// One place and what is wrong there, both cut to a length people can read.
pub(super) fn error(path: &str, message: &str) -> FieldError {
    FieldError {
        path: cut(path, PATH),
        message: cut(message, MESSAGE),
    }
}

/// A place by its steps from the root of a value that is called `name`.
pub(super) fn path<'p>(name: &str, steps: impl Iterator<Item = &'p str>, root: &Value) -> String {
    let (mut path, mut current) = (name.to_owned(), Some(root));
    for step in steps {
        current = match current {
            Some(Value::Array(items)) => {
                path.extend(["[", step, "]"]);
                step.parse().ok().and_then(|index: usize| items.get(index))
            }
            other => {
                push_property(&mut path, step);
                other.and_then(|value| value.get(step))
            }
        };
    }
    path
}

fn push_property(path: &mut String, name: &str) {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    if !name.is_empty() && name.chars().all(plain) {
        path.push('.');
        path.push_str(name);
    } else {
        path.extend(["[", &Value::from(name).to_string(), "]"]);
    }
}

fn of(failure: &ValidationError<'_>, value: &Value, name: &str) -> Vec<FieldError> {
    let location = failure.instance_path().as_str();
    let steps: Vec<String> = location
        .split('/')
        .skip(1)
        .map(|step| step.replace("~1", "/").replace("~0", "~"))
        .collect();
    let here = path(name, steps.iter().map(String::as_str), value);
    let within = |property: &str, message: &str| {
        let mut path = here.clone();
        push_property(&mut path, property);
        error(&path, message)
    };
    match failure.kind() {
        Kind::Required { property } => {
            vec![within(property.as_str().unwrap_or_default(), "is missing")]
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let places = unexpected.iter().take(MAX_ERRORS);
            places
                .map(|property| within(property, "is not allowed"))
                .collect()
        }
        Kind::FalseSchema => vec![error(&here, "is not allowed")],
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            vec![error(&here, "fits none of the forms it may have")]
        }
        Kind::OneOfMultipleValid { .. } => {
            vec![error(&here, "fits several of the forms of which it may have one")]
        }
        Kind::Not { .. } => vec![error(&here, "has a form it must not have")],
        _ => vec![error(&here, &failure.masked_with("the value").to_string())],
    }
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
