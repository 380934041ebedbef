//! The example file and the table of options, both from [`SECTIONS`] and the defaults.

use std::fmt::Write;

use serde_json::Value;

use super::load::{section_value, variable_of};
use super::options::{OptionInfo, SectionInfo, plain};
use super::{Config, SECTIONS};

/// Widest line of the example file, in characters.
const LINE_CHARS_MAX: usize = 98;

/// The text of `seen.example.toml`: every option, documented, at its default.
pub fn example() -> String {
    let mut text = comment(
        "Every option of seen at its default. A value may also be set by an environment variable \
         (SEEN_<SECTION>__<KEY>, for example SEEN_CACHE__MEMORY=8GiB) or by --set section.key=value; \
         the flag wins over the variable, the variable over the file, and [[namespace]] tables \
         replace the default ones as a whole.",
    );
    let defaults = Config::default();
    for section in &SECTIONS {
        let _ = write!(text, "\n{}", comment(section.help));
        match section_value(&defaults, section.name) {
            Value::Array(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    let gap = if index == 0 { "" } else { "\n" };
                    let _ = writeln!(text, "{gap}[[{}]]", section.name);
                    options(&mut text, section, table, index == 0);
                }
            }
            table => {
                let _ = writeln!(text, "[{}]", section.name);
                options(&mut text, section, &table, true);
            }
        }
    }
    text
}

fn options(text: &mut String, section: &SectionInfo, values: &Value, documented: bool) {
    for option in section.options {
        if documented {
            text.push_str(&comment(&format!("{} Allowed: {}.", option.help, option.allowed)));
        }
        match (values.get(option.key), option.unset) {
            (Some(value), _) => {
                let _ = writeln!(text, "{} = {value}", option.key);
            }
            (None, Some(example)) => {
                let _ = writeln!(text, "# {} = {}", option.key, toml_value(example));
            }
            (None, None) => {}
        }
    }
}

/// A number as it is, anything else in quotes.
fn toml_value(text: &str) -> String {
    if text.parse::<f64>().is_ok() { text.to_owned() } else { format!("{text:?}") }
}

fn comment(sentence: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > LINE_CHARS_MAX {
            let _ = writeln!(lines, "{line}");
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(lines, "{line}");
    lines
}

/// The table of options, in Markdown.
pub fn markdown() -> String {
    let mut text = "| Option | Default | Allowed | Meaning |\n|---|---|---|---|\n".to_owned();
    let defaults = Config::default();
    for section in &SECTIONS {
        let values = match section_value(&defaults, section.name) {
            Value::Array(mut tables) => tables.swap_remove(0),
            table => table,
        };
        for option in section.options {
            let _ = writeln!(text, "{}", row(section, option, &values));
        }
    }
    let example = variable_of("cache", "memory");
    let _ = writeln!(text, "\nAs an environment variable: `{example}=8GiB`.");
    text
}

fn row(section: &SectionInfo, option: &OptionInfo, values: &Value) -> String {
    let is_name = section.name == "namespace" && option.key == "name";
    let default = match values.get(option.key) {
        _ if is_name => "required".to_owned(),
        Some(value) => format!("`{}`", plain(value)),
        None => "unset".to_owned(),
    };
    let (name, key) = (section.name, option.key);
    format!("| `{name}.{key}` | {default} | {} | {} |", option.allowed, option.help)
}
