//! Where settings come from, and reading them one by one while collecting mistakes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use url::Url;

use super::Overrides;
use super::table::{SETTINGS, Setting, Shown, setting};
use crate::cli::Failure;

/// The configuration file that is read where none is named.
const FILE: &str = "tidings.toml";

/// A setting's value and its source.
#[derive(Debug, Clone)]
pub(super) struct Sourced {
    setting: &'static Setting,
    value: String,
    source: String,
}

impl fmt::Display for Sourced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.setting.shown {
            _ if self.value.is_empty() => String::new(),
            Shown::Plain => self.value.clone(),
            Shown::Never => "********".to_owned(),
            Shown::Url => self
                .value
                .split(',')
                .map(without_password)
                .collect::<Vec<_>>()
                .join(","),
        };
        write!(f, "{} = \"{shown}\"  # {}", self.setting.key, self.source)
    }
}

fn without_password(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return "********".to_owned();
    };
    if url.password().is_some() && url.set_password(Some("********")).is_err() {
        return "********".to_owned();
    }
    url.to_string()
}

/// A source that gives every value as the text it is: figment's own would read `12e4…` of a key as a number.
struct Texts {
    name: &'static str,
    values: BTreeMap<String, String>,
}

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = self
            .values
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.clone())))
            .collect();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

fn defaults() -> Texts {
    let values = SETTINGS
        .iter()
        .map(|setting| (setting.key.to_owned(), setting.default.to_owned()));
    Texts {
        name: "default",
        values: values.collect(),
    }
}

fn environment() -> Texts {
    let keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    let variables = Env::prefixed("TIDINGS_").only(&keys);
    let values = variables
        .iter()
        .map(|(key, value)| (key.as_str().to_lowercase(), value));
    Texts {
        name: "environment",
        values: values.collect(),
    }
}

fn flags(overrides: &Overrides) -> Texts {
    let values = overrides
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    Texts {
        name: "flag",
        values: values.collect(),
    }
}

/// All sources, the weakest first.
fn sources(file: Option<&Path>, overrides: &Overrides) -> Result<Figment, Failure> {
    let figment = Figment::from(defaults());
    let figment = match file.unwrap_or(Path::new(FILE)) {
        path if path.is_file() => figment.merge(Toml::file_exact(path)),
        path if file.is_some() => {
            let error = format!("the configuration file {} is not there", path.display());
            return Err(Failure::usage(
                vec![error],
                "name an existing file, or leave --config away",
            ));
        }
        _ => figment,
    };
    Ok(figment.merge(environment()).merge(flags(overrides)))
}

/// Every setting from its strongest source, and the mistakes found on the way.
pub(super) fn gather(
    file: Option<&Path>,
    overrides: &Overrides,
) -> Result<(Vec<Sourced>, Vec<String>), Failure> {
    let figment = sources(file, overrides)?;
    let all: Dict = figment.extract().map_err(|error| {
        let errors = error.into_iter().map(|error| error.to_string()).collect();
        Failure::usage(
            errors,
            "the file is TOML; `tidings config --default` prints a complete one",
        )
    })?;
    let unknown = all.keys().filter(|key| setting(key).is_none());
    let mut mistakes: Vec<_> = unknown
        .map(|key| format!("there is no setting named {key}"))
        .collect();
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let Some(value) = all.get(setting.key) else {
            continue;
        };
        let source = figment.find_metadata(setting.key);
        let source = source.map_or_else(|| "default".to_owned(), describe);
        let Some(value) = as_text(value) else {
            mistakes.push(format!(
                "{} ({source}): must be a text, a number or a list of texts",
                setting.key
            ));
            continue;
        };
        settings.push(Sourced {
            setting,
            value,
            source,
        });
    }
    Ok((settings, mistakes))
}

fn describe(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(figment::Source::file_path) {
        Some(path) => path.display().to_string(),
        None => metadata.name.to_string(),
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.trim().to_owned()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(..) => value.to_i128().map(|number| number.to_string()),
        Value::Array(_, items) => {
            let items: Option<Vec<_>> = items.iter().map(as_text).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

/// Reads settings one by one; what is wrong is kept, not thrown.
pub(super) struct Reader<'a> {
    settings: &'a [Sourced],
    mistakes: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Starts with mistakes already found.
    pub(super) fn new(settings: &'a [Sourced], mistakes: Vec<String>) -> Self {
        Self { settings, mistakes }
    }

    /// A setting that always has a value; nothing if it is wrong.
    pub(super) fn get<T>(&mut self, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let sourced = self.settings.iter().find(|sourced| sourced.setting.key == key)?;
        match parse(&sourced.value) {
            Ok(value) => Some(value),
            Err(mistake) => {
                self.mistakes
                    .push(format!("{key} ({}): {mistake}", sourced.source));
                None
            }
        }
    }

    /// A setting that may be empty: `Some(None)` then, nothing if it is wrong.
    #[expect(
        clippy::option_option,
        reason = "the outer one is whether it could be read, the inner whether it is set"
    )]
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let empty = self
            .settings
            .iter()
            .any(|sourced| sourced.setting.key == key && sourced.value.is_empty());
        if empty {
            Some(None)
        } else {
            self.get(key, parse).map(Some)
        }
    }

    /// Notes a mistake that concerns several settings.
    pub(super) fn mistake(&mut self, text: &str) {
        self.mistakes.push(text.to_owned());
    }

    /// Everything that was wrong.
    pub(super) fn into_mistakes(self) -> Vec<String> {
        self.mistakes
    }
}
