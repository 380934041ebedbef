//! Merging the sources of a configuration, and keeping track of which one each value came from.

use std::path::{Path, PathBuf};

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;

use super::error::{ConfigError, Origin};
use super::options::{Allowed, SectionInfo, plain};
use super::{Config, SECTIONS};

/// The file that is read if none is named and it is there.
pub const FILE_DEFAULT: &str = "seen.toml";
/// What the name of an environment variable begins with.
const VARIABLE_PREFIX: &str = "SEEN_";
/// What separates section and key in the name of an environment variable.
const VARIABLE_SEPARATOR: &str = "__";
/// How similar a key must be to be suggested, from 0 to 1.
const SUGGESTION_LIKENESS_MIN: f64 = 0.6;

/// Where a configuration is read from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file. `None` reads [`FILE_DEFAULT`] in the working directory if it is there.
    pub file: Option<PathBuf>,
    /// The environment. Only names with `__` in them (and `SEEN_NAMESPACE`) are ours: an orchestrator
    /// invents others, such as `SEEN_SERVICE_HOST`, for a service called `seen`.
    pub variables: Vec<(String, String)>,
    /// `key=value` of each `--set`.
    pub flags: Vec<String>,
}

/// A configuration together with where each value came from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The configuration, in range.
    pub config: Config,
    /// Its values in the order of [`SECTIONS`].
    pub settings: Vec<Setting>,
}

/// One value of the effective configuration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its dotted key; namespaces are numbered.
    pub key: String,
    /// Its value.
    pub value: serde_json::Value,
    /// Who set it.
    pub origin: Origin,
}

impl Sources {
    /// The process's own environment, with these flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, variables, flags }
    }

    /// Reads, merges and checks.
    ///
    /// # Errors
    /// [`ConfigError`]: a file that cannot be read, an unknown key, a wrong shape, or a value out
    /// of range.
    pub fn load(self) -> Result<Effective, ConfigError> {
        let figment = self.merged()?;
        let merged = figment.find_value("").map_err(|error| invalid(&error))?;
        refuse_unknown(&figment, &merged)?;
        let config: Config = figment.extract().map_err(|error| invalid(&error))?;
        config.validate().map_err(|error| ConfigError::OutOfRange {
            origin: origin_at(&figment, &merged, &error.key),
            error,
        })?;
        let settings = settings(&figment, &merged, &config);
        Ok(Effective { config, settings })
    }

    fn merged(self) -> Result<Figment, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(path) = readable(self.file)? {
            figment = figment.merge(Toml::file_exact(path));
        }
        let mut variables = self.variables;
        variables.sort();
        for (name, text) in variables {
            if let Some(key) = key_of_variable(&name) {
                figment = figment.merge(One::new(name, key, &text));
            }
        }
        for text in self.flags {
            let Some((key, value)) = text.split_once('=') else {
                return Err(ConfigError::Flag { text });
            };
            figment = figment.merge(One::new("--set".to_owned(), key.trim().to_owned(), value));
        }
        Ok(figment)
    }
}

/// The file to read: one that is named must be there.
fn readable(file: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    match file {
        None => Ok(Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.exists())),
        Some(path) => match std::fs::File::open(&path) {
            Ok(_) => Ok(Some(path)),
            Err(source) => Err(ConfigError::Unreadable { path, source }),
        },
    }
}

/// The dotted key that an environment variable sets, if it is one of ours.
fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix(VARIABLE_PREFIX)?;
    let ours = rest.contains(VARIABLE_SEPARATOR) || rest == "NAMESPACE";
    ours.then(|| rest.to_ascii_lowercase().replace(VARIABLE_SEPARATOR, "."))
}

/// The environment variable that sets `key` of `section`.
pub(super) fn variable_of(section: &str, key: &str) -> String {
    format!("{VARIABLE_PREFIX}{section}{VARIABLE_SEPARATOR}{key}").to_ascii_uppercase()
}

/// A provider of one value, so that each keeps its own origin.
struct One {
    name: String,
    key: String,
    value: Value,
}

impl One {
    fn new(name: String, key: String, text: &str) -> Self {
        // A password of digits is no number. Parsing cannot fail: what is no number, list or table
        // is text.
        let value = match is_text(&key) {
            true => Value::from(text),
            false => text.parse().unwrap_or_else(|_| Value::from(text)),
        };
        Self { name, key, value }
    }
}

/// True if the option takes text as it stands.
fn is_text(key: &str) -> bool {
    let Some((section, key)) = key.split_once('.') else { return false };
    let section = SECTIONS.iter().find(|known| known.name == section);
    let option = section.and_then(|known| known.options.iter().find(|option| option.key == key));
    option.is_some_and(|option| matches!(option.allowed, Allowed::Text(_) | Allowed::Secret))
}

impl Provider for One {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        let dict = nested.into_dict().ok_or_else(|| format!("{:?} is no key", self.key))?;
        Ok(Profile::Default.collect(dict))
    }
}

fn origin_of(metadata: Option<&Metadata>) -> Origin {
    let Some(metadata) = metadata else {
        return Origin::Default;
    };
    match metadata.source.as_ref().and_then(|source| source.file_path()) {
        Some(path) => Origin::File(shown(path)),
        None if metadata.name == "--set" => Origin::Flag,
        None if metadata.name.starts_with(VARIABLE_PREFIX) => {
            Origin::Variable(metadata.name.to_string())
        }
        None => Origin::Default,
    }
}

/// A path as it was most likely written: relative to the working directory where it lies below.
fn shown(path: &Path) -> PathBuf {
    let below = std::env::current_dir().ok().and_then(|dir| path.strip_prefix(dir).ok());
    below.unwrap_or(path).to_path_buf()
}

/// The value at a dotted key, through tables and lists.
fn at<'v>(merged: &'v Value, key: &str) -> Option<&'v Value> {
    key.split('.').try_fold(merged, |value, part| match value {
        Value::Dict(_, dict) => dict.get(part),
        Value::Array(_, items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn origin_at(figment: &Figment, merged: &Value, key: &str) -> Origin {
    match at(merged, key) {
        Some(value) => origin_of(figment.get_metadata(value.tag())),
        None => Origin::Default,
    }
}

fn invalid(error: &figment::Error) -> ConfigError {
    let key = match error.path.as_slice() {
        [] => "configuration".to_owned(),
        path => path.join("."),
    };
    let origin = origin_of(error.metadata.as_ref());
    ConfigError::Invalid { key, message: error.kind.to_string(), origin }
}

/// Refuses the first key that no option has.
fn refuse_unknown(figment: &Figment, merged: &Value) -> Result<(), ConfigError> {
    let Some(tables) = merged.as_dict() else {
        return Ok(());
    };
    for (name, table) in tables {
        let Some(section) = SECTIONS.iter().find(|section| section.name == name) else {
            return Err(unknown(figment, name.clone(), table));
        };
        match table {
            Value::Array(_, items) => {
                for (index, item) in items.iter().enumerate() {
                    refuse_unknown_in(figment, section, &format!("{name}.{index}"), item)?;
                }
            }
            table => refuse_unknown_in(figment, section, name, table)?,
        }
    }
    Ok(())
}

fn refuse_unknown_in(
    figment: &Figment,
    section: &SectionInfo,
    table: &str,
    values: &Value,
) -> Result<(), ConfigError> {
    // Something that is no table is refused for its shape when it is read.
    let Some(values) = values.as_dict() else {
        return Ok(());
    };
    match values.iter().find(|(key, _)| section.options.iter().all(|option| option.key != *key)) {
        Some((key, value)) => Err(unknown(figment, format!("{table}.{key}"), value)),
        None => Ok(()),
    }
}

fn unknown(figment: &Figment, key: String, value: &Value) -> ConfigError {
    // A table has no origin of its own: ask its first value.
    let mut leaf = value;
    while let Some(inner) = leaf.as_dict().and_then(|dict| dict.values().next()) {
        leaf = inner;
    }
    let origin = origin_of(figment.get_metadata(leaf.tag()));
    ConfigError::Unknown { suggestion: nearest(&key), key, origin }
}

/// The key that is most like `key`, if one is like it at all.
fn nearest(key: &str) -> Option<String> {
    let (table, last) = key.rsplit_once('.').unwrap_or(("", key));
    let table = table.split('.').next().unwrap_or(table);
    let asked = if table.is_empty() { key.to_owned() } else { format!("{table}.{last}") };
    let sections = SECTIONS.iter().map(|section| section.name.to_owned());
    let options = SECTIONS.iter().flat_map(|section| {
        section.options.iter().map(move |option| format!("{}.{}", section.name, option.key))
    });
    // A right name in a wrong section is nearly as good a match as a misspelt key in the right one.
    let likeness = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&asked, known);
        let own = known.rsplit('.').next().unwrap_or(known);
        whole.max(0.9 * strsim::normalized_damerau_levenshtein(last, own))
    };
    sections
        .chain(options)
        .map(|known| (likeness(&known), known))
        .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn settings(figment: &Figment, merged: &Value, config: &Config) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |table: &str, section: &SectionInfo, values: serde_json::Value| {
        for option in section.options {
            let key = format!("{table}.{}", option.key);
            if let Some(value) = values.get(option.key) {
                let origin = origin_at(figment, merged, &key);
                settings.push(Setting { key, value: value.clone(), origin });
            }
        }
    };
    for section in &SECTIONS {
        match section_value(config, section.name) {
            serde_json::Value::Array(items) => {
                for (index, item) in items.into_iter().enumerate() {
                    add(&format!("{}.{index}", section.name), section, item);
                }
            }
            table => add(section.name, section, table),
        }
    }
    settings
}

/// The values of one section as they are serialized.
pub(super) fn section_value(config: &impl Serialize, name: &str) -> serde_json::Value {
    let mut whole = serde_json::to_value(config).unwrap_or_default();
    whole.get_mut(name).map(serde_json::Value::take).unwrap_or_default()
}

impl Effective {
    /// The settings as a table of key, value and origin, for people.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 3]> = self
            .settings
            .iter()
            .map(|one| [one.key.clone(), plain(&one.value), one.origin.to_string()])
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (keys, values) = (width(0), width(1));
        rows.iter()
            .map(|[key, value, origin]| format!("{key:keys$}  {value:values$}  {origin}\n"))
            .collect()
    }

    /// The settings as one JSON object: key to value and origin.
    pub fn json(&self) -> serde_json::Value {
        let entry = |one: &Setting| {
            let origin = one.origin.to_string();
            (one.key.clone(), serde_json::json!({ "value": one.value, "origin": origin }))
        };
        self.settings.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }
}
