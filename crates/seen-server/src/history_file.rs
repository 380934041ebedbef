//! Reads histories from files: TSV or CSV, plain or compressed by zstd or gzip, one line at a time; or
//! Parquet, some thousand rows at a time, whose columns are found by their names.
//!
//! A line is `user, item, time` or `user, item, kind, time`, separated by tabs or commas. Users and
//! items are numbers of 64 bits, kinds are 0-255 (0 where the column is absent). Times are seconds
//! or milliseconds since 1970-01-01 UTC, whichever is likelier (see [`LINE_FORM`]), or RFC 3339. A
//! first line without numbers is taken as a heading; empty lines and those that begin with `#` are
//! passed over. What a file is compressed with is seen from its first bytes, whatever its name is.

mod columns;
mod line;
mod lines;
mod parquet;
mod row_sum;
mod source;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use seen_filter::{Item, UnixMillis, UserId};
use thiserror::Error;

pub use columns::ColumnNames;
pub use line::{LINE_FORM, parse_time, write_line};
pub use lines::LINE_BYTES_MAX;
pub use row_sum::RowSum;

use lines::{Line, Lines};
use parquet::ParquetRows;

/// How many malformed lines an error or a report quotes.
pub const MALFORMED_SHOWN_MAX: usize = 5;

/// Malformed lines that are passed over unless the caller says otherwise.
pub const MALFORMED_MAX_DEFAULT: u64 = 100;

/// Longest piece of a malformed line that is quoted, in bytes.
const QUOTED_BYTES_MAX: usize = 120;

/// One line of a history: who read what, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub user: UserId,
    /// What.
    pub item: Item,
    /// When.
    pub at: UnixMillis,
}

/// How far a file has been read; a row of a Parquet file counts as a line of 25 bytes. The checksum makes sure that a reading which goes on from here
/// later does so in the same file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Lines, the malformed and empty ones included.
    pub lines: u64,
    /// Bytes, decompressed.
    pub bytes: u64,
    /// CRC-32 of those bytes.
    pub crc32: u32,
}

/// A line that is not one of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
    /// How it begins.
    pub text: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {:?}", self.line, self.what, self.text)
    }
}

/// Why a file cannot be read (on).
#[derive(Debug, Error)]
pub enum HistoryFileError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read on: a fault of the disk, or of the compression.
    #[error("{} cannot be read after line {line}: {source}; is it whole?", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// More lines are malformed than allowed.
    #[error("{}", too_many(path, *malformed, *malformed_max, first))]
    TooManyMalformed {
        /// In which.
        path: PathBuf,
        /// How many so far.
        malformed: u64,
        /// How many are allowed.
        malformed_max: u64,
        /// The first of them.
        first: Vec<Malformed>,
    },
    /// What was read before is not what the file begins with now.
    #[error(
        "{} no longer begins with the {} lines that were read before (their checksum differs); \
         begin anew, without the checkpoint",
        path.display(), position.lines
    )]
    Changed {
        /// Which.
        path: PathBuf,
        /// How far it was read before.
        position: Position,
    },
}

fn too_many(path: &Path, malformed: u64, malformed_max: u64, first: &[Malformed]) -> String {
    let mut text = format!(
        "{}: {malformed} malformed lines, allowed: {malformed_max} (--malformed-max); a line is \
         {LINE_FORM}; the first:",
        path.display()
    );
    for one in first {
        text.push_str("\n  ");
        text.push_str(&one.to_string());
    }
    text
}

/// What a file is made of.
enum Form {
    Lines(Lines),
    Parquet(Box<ParquetRows>),
}

/// Reads the events of one file, in its order. Holds one line in memory, or some thousand rows.
pub struct HistoryFile {
    path: PathBuf,
    form: Form,
    malformed: u64,
    malformed_max: u64,
    first: Vec<Malformed>,
}

impl fmt::Debug for HistoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl HistoryFile {
    /// Opens a file; `-` is stdin. Up to `malformed_max` malformed lines are passed over.
    ///
    /// # Errors
    /// [`HistoryFileError::Open`].
    pub fn open(path: &Path, malformed_max: u64) -> Result<Self, HistoryFileError> {
        Self::open_named(path, malformed_max, None)
    }

    /// The same, with the names of a Parquet file's columns where they are not the usual ones.
    ///
    /// # Errors
    /// [`HistoryFileError::Open`], also for a file that has lines in place of named columns.
    pub fn open_named(
        path: &Path,
        malformed_max: u64,
        names: Option<&ColumnNames>,
    ) -> Result<Self, HistoryFileError> {
        let open = || match source::parquet(path)? {
            Some(file) => {
                let rows = ParquetRows::open(file, names.unwrap_or(&ColumnNames::default()))?;
                Ok(Form::Parquet(Box::new(rows)))
            }
            None if names.is_some() => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "--columns names the columns of Parquet files, and this is none",
            )),
            None => {
                source::reader(source::open(path)?).map(|reader| Form::Lines(Lines::new(reader)))
            }
        };
        let form =
            open().map_err(|source| HistoryFileError::Open { path: path.to_owned(), source })?;
        Ok(Self::new(path, form, malformed_max))
    }

    /// Reads from memory; `name` is for errors.
    ///
    /// # Errors
    /// [`HistoryFileError::Open`] if the bytes claim a compression that they do not have.
    pub fn from_bytes(
        name: &str,
        bytes: &'static [u8],
        malformed_max: u64,
    ) -> Result<Self, HistoryFileError> {
        let path = Path::new(name);
        let reader = source::reader(Box::new(bytes))
            .map_err(|source| HistoryFileError::Open { path: path.to_owned(), source })?;
        Ok(Self::new(path, Form::Lines(Lines::new(reader)), malformed_max))
    }

    fn new(path: &Path, form: Form, malformed_max: u64) -> Self {
        Self { path: path.to_owned(), form, malformed: 0, malformed_max, first: Vec::new() }
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// [`HistoryFileError::Read`] or [`HistoryFileError::TooManyMalformed`].
    pub fn next_event(&mut self) -> Result<Option<Event>, HistoryFileError> {
        loop {
            let before = self.position_lines();
            let read = match &mut self.form {
                Form::Lines(lines) => next_line(lines),
                Form::Parquet(rows) => rows.next_row(),
            };
            let failed = |source| {
                let path = self.path.clone();
                HistoryFileError::Read { path, line: before, source }
            };
            match read.map_err(failed)? {
                None => return Ok(None),
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(malformed)) => self.count(malformed)?,
            }
        }
    }

    fn position_lines(&self) -> u64 {
        match &self.form {
            Form::Lines(lines) => lines.lines(),
            Form::Parquet(rows) => rows.records(),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.form {
            Form::Lines(lines) => lines.bytes(),
            Form::Parquet(rows) => rows.bytes(),
        }
    }

    fn count(&mut self, malformed: Malformed) -> Result<(), HistoryFileError> {
        self.malformed += 1;
        if self.first.len() < MALFORMED_SHOWN_MAX {
            self.first.push(malformed);
        }
        if self.malformed <= self.malformed_max {
            return Ok(());
        }
        Err(HistoryFileError::TooManyMalformed {
            path: self.path.clone(),
            malformed: self.malformed,
            malformed_max: self.malformed_max,
            first: self.first.clone(),
        })
    }

    /// How many lines were malformed so far.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// The first of them, at most [`MALFORMED_SHOWN_MAX`].
    pub fn first_malformed(&self) -> &[Malformed] {
        &self.first
    }

    /// How far it has been read: up to and including the line of the last event.
    pub fn position(&self) -> Position {
        match &self.form {
            Form::Lines(lines) => lines.position(),
            Form::Parquet(rows) => rows.position(),
        }
    }

    /// Reads what was read before again, up to `position`, and hands its events to `each`. Call it
    /// first of all.
    ///
    /// # Errors
    /// As for [`next_event`](Self::next_event), or [`HistoryFileError::Changed`] if the file does not
    /// begin with the same bytes.
    pub fn read_again(
        &mut self,
        position: Position,
        mut each: impl FnMut(Event),
    ) -> Result<(), HistoryFileError> {
        while self.bytes() < position.bytes
            && let Some(event) = self.next_event()?
        {
            each(event);
        }
        if self.position() == position {
            return Ok(());
        }
        Err(HistoryFileError::Changed { path: self.path.clone(), position })
    }
}

/// The next line that says something, or is malformed; `None` at the end.
fn next_line(lines: &mut Lines) -> io::Result<Option<Result<Event, Malformed>>> {
    loop {
        let number = lines.lines() + 1;
        let (text, parsed) = match lines.next_line()? {
            None => return Ok(None),
            Some(Line::Whole(text)) => (text, line::parse(text)),
            Some(Line::TooLong(start)) => {
                (start, Err(format!("longer than {LINE_BYTES_MAX} bytes")))
            }
        };
        match parsed {
            Ok(Some(event)) => return Ok(Some(Ok(event))),
            Ok(None) => {}
            Err(_) if number == 1 && line::is_heading(text) => {}
            Err(what) => {
                let quoted = &text[..text.len().min(QUOTED_BYTES_MAX)];
                let text = String::from_utf8_lossy(quoted).into_owned();
                return Ok(Some(Err(Malformed { line: number, what, text })));
            }
        }
    }
}

#[cfg(test)]
mod tests;
