//! Texts that are made from the code and kept in the repository: the tables between markers in
//! Markdown files, and the example configuration. A test fails where they drift;
//! `cargo run -p seen-server --example readme_tables` rewrites them.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{config, metrics};

/// A marker without its partner.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("<!-- {name}:{missing} --> is missing; write both markers, each on a line of its own")]
pub struct MarkerError {
    /// What the table is about.
    pub name: &'static str,
    /// `begin` or `end`.
    pub missing: &'static str,
}

/// The tables: what their markers are called, and what stands between these.
pub fn tables() -> [(&'static str, String); 2] {
    [("options", config::markdown()), ("metrics", metrics::markdown())]
}

/// The text of a Markdown file with every marked table as the code has it.
///
/// # Errors
/// [`MarkerError`] if a marker stands alone.
pub fn with_tables(text: &str) -> Result<String, MarkerError> {
    tables().into_iter().try_fold(text.to_owned(), |text, (name, table)| {
        let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
        match (text.split_once(&begin), text.split_once(&end)) {
            (None, None) => Ok(text),
            (Some(_), None) => Err(MarkerError { name, missing: "end" }),
            (None, Some(_)) => Err(MarkerError { name, missing: "begin" }),
            (Some((before, _)), Some((_, after))) => {
                Ok(format!("{before}{begin}{table}{end}{after}"))
            }
        }
    })
}

/// The Markdown files in which tables are kept: README.md and what lies in docs/.
///
/// # Errors
/// A folder that cannot be listed.
pub fn documents(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![root.join("README.md")];
    let docs = root.join("docs");
    if docs.is_dir() {
        for entry in std::fs::read_dir(docs)? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.is_file() && path.extension().is_some_and(|end| end == "md"));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::{MarkerError, with_tables};

    #[test]
    fn a_marked_table_is_replaced_and_the_rest_stays() {
        let old = "a\n<!-- metrics:begin -->\nold\n<!-- metrics:end -->\nb\n";
        let new = with_tables(old).expect("both markers are there");
        assert!(new.starts_with("a\n<!-- metrics:begin -->\n| Metric "));
        assert!(new.ends_with("|\n<!-- metrics:end -->\nb\n") && !new.contains("\nold\n"));
        assert_eq!(with_tables(&new).as_deref(), Ok(new.as_str()));
    }

    #[test]
    fn a_lone_marker_is_an_error() {
        let lone = with_tables("<!-- options:begin -->\n");
        assert_eq!(lone, Err(MarkerError { name: "options", missing: "end" }));
    }
}
