//! Programs in Java, from the jars that `scripts/feed-tools` fetched.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, While};
use crate::keeper::Launch;
use crate::{cache, program};

/// Where the jars are, if not in the cache.
const PLACE: &str = "SEEN_FEED_TOOLS";
/// Where `scripts/feed-tools` puts them: the version is part of the name.
const IN_CACHE: &str = "feed-tools-1";
/// Small, and quick to start rather than quick in the long run.
const OPTIONS: [&str; 5] = [
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxDirectMemorySize=64m",
];

/// One folder of jars, and the Java to run them with.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    java: PathBuf,
    folder: PathBuf,
    /// Of the classes that a start needs, which makes it faster; not there for all.
    archives: PathBuf,
    options: Vec<String>,
}

impl Tool {
    /// Finds the jars in the folder `name`. `target` is what `scripts/feed-tools` calls them.
    pub(crate) fn find(name: &str, target: &str) -> Result<Self, Error> {
        let place = env::var_os(PLACE).map(PathBuf::from);
        Self::find_in(&place.unwrap_or_else(|| cache::folder().join(IN_CACHE)), name, target)
    }

    pub(crate) fn find_in(tools: &Path, name: &str, target: &str) -> Result<Self, Error> {
        let how = format!("run scripts/feed-tools {target}, which fetches it (about a minute)");
        let folder = tools.join(name);
        if !folder.is_dir() {
            return Err(Error::Missing { what: folder.display().to_string(), how });
        }
        let java = program::find("java", &how)?;
        Ok(Self { java, folder, archives: tools.join("archives"), options: Vec::new() })
    }

    /// One more option for Java itself.
    pub(crate) fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// With a log on standard output, for the programs that log by way of log4j. Its settings are
    /// written into the folder.
    pub(crate) fn with_log(self, folder: &Path) -> Result<Self, Error> {
        let settings = folder.join("log4j.properties");
        let what = || format!("write {}", settings.display());
        fs::write(&settings, include_str!("log4j.properties")).when(what)?;
        Ok(self.option(format!("-Dlog4j.configuration=file:{}", settings.display())))
    }

    /// How to run a class with these arguments.
    pub(crate) fn launch<A: Into<OsString>>(
        &self,
        class: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Launch {
        Launch {
            program: self.java.clone(),
            arguments: self.arguments(class, arguments),
            environment: Vec::new(),
        }
    }

    /// What follows `java`.
    pub(crate) fn arguments<A: Into<OsString>>(
        &self,
        class: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Vec<OsString> {
        // A star is not for the shell here, but for Java: every jar.
        let mut jars = self.folder.join("classes").into_os_string();
        jars.push(":");
        jars.push(self.folder.join("*"));
        let mut all: Vec<OsString> = OPTIONS.map(OsString::from).into();
        all.extend(self.options.iter().map(OsString::from));
        // Java takes no notice of one that is not there, or was made by another Java.
        let mut archive = OsString::from("-XX:SharedArchiveFile=");
        archive.push(self.archives.join(format!("{class}.jsa")));
        all.extend([archive, "-cp".into(), jars, class.into()]);
        all.extend(arguments.into_iter().map(Into::into));
        all
    }

    pub(crate) fn java(&self) -> &Path {
        &self.java
    }
}

/// Settings as a file of Java's properties; of two with one name the later one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties(Vec<(String, String)>);

impl Properties {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl ToString) {
        let name = name.into();
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, value.to_string()));
    }

    /// Sets all of others.
    pub(crate) fn extend(&mut self, others: &Self) {
        for (name, value) in &others.0 {
            self.set(name, value);
        }
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), Error> {
        fs::write(file, self.text()).when(|| format!("write {}", file.display()))
    }

    /// As it stands in the file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            text.push_str(name);
            text.push('=');
            for unit in value.encode_utf16() {
                match u8::try_from(unit) {
                    Ok(b'\\') => text.push_str("\\\\"),
                    Ok(plain @ b' '..=b'~') => text.push(plain.into()),
                    _ => {
                        // Writing to a string cannot fail.
                        let _written = write!(text, "\\u{unit:04x}");
                    }
                }
            }
            text.push('\n');
        }
        text
    }
}

impl<N: Into<String>, V: ToString> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(settings: I) -> Self {
        let mut properties = Self::default();
        for (name, value) in settings {
            properties.set(name, value);
        }
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_java_reads_them() {
        let mut properties = Properties::from_iter([("a", r"t\.d\.(x|y)"), ("b", "é\n=#")]);
        assert_eq!(properties.text(), "a=t\\\\.d\\\\.(x|y)\nb=\\u00e9\\u000a=#\n");
        properties.set("a", 7);
        assert_eq!(properties.text(), "b=\\u00e9\\u000a=#\na=7\n");
    }

    #[test]
    fn tools_that_are_not_there_are_named_with_the_way_to_them() {
        let error = Tool::find_in("/nowhere".as_ref(), "kafka", "debezium").expect_err("nowhere");
        let told = error.to_string();
        assert!(told.starts_with("/nowhere/kafka is missing; run scripts/feed-tools debezium"));
    }
}
