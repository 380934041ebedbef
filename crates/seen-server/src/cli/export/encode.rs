//! Rows in the form that is asked for, and the checksums of both the rows and the bytes.

use std::io::{self, BufWriter, Write};

use flate2::write::GzEncoder;
use seen_filter::ScannedRow;
use seen_proto::limits::MARKED_AT_MS_MAX;

use super::columns::Columns;
use super::manifest::{Compression, Format};
use crate::history_file::{Event, RowSum, write_line};

/// Bytes that are handed to the file at once.
const BUFFER_BYTES: usize = 256 << 10;
/// The effort of zstd: its default, some 300 MB a second.
const ZSTD_LEVEL: i32 = 3;
/// The columns' names, as a heading.
const HEADING: &[u8] = b"user\titem\tkind\ttime\n";

/// Where encoded bytes go.
pub(super) type Target = Box<dyn Write + Send>;

/// Counts and sums what goes by.
pub(super) struct Summed {
    to: Target,
    bytes: u64,
    crc32: crc32fast::Hasher,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.to.write(bytes)?;
        self.crc32.update(&bytes[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What was written in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) rows_crc32: u32,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

enum Body {
    Plain(BufWriter<Summed>),
    Zstd(zstd::stream::write::Encoder<'static, Summed>),
    Gzip(GzEncoder<Summed>),
    Columns(Box<Columns>),
}

/// Writes rows.
pub(super) struct Encoder {
    body: Body,
    sum: RowSum,
    text: Vec<u8>,
}

/// What a file says about itself, where its form has room for it.
pub(super) type Labels = Vec<(&'static str, String)>;

impl Encoder {
    pub(super) fn new(
        to: Target,
        format: Format,
        compress: Compression,
        labels: &Labels,
    ) -> io::Result<Self> {
        let to = Summed { to, bytes: 0, crc32: crc32fast::Hasher::new() };
        let body = match (format, compress) {
            (Format::Parquet, compress) => {
                Body::Columns(Box::new(Columns::new(to, compress, labels)?))
            }
            (Format::Tsv, Compression::None) => {
                Body::Plain(BufWriter::with_capacity(BUFFER_BYTES, to))
            }
            (Format::Tsv, Compression::Zstd) => {
                let mut encoder = zstd::stream::write::Encoder::new(to, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Body::Zstd(encoder)
            }
            (Format::Tsv, Compression::Gzip) => {
                Body::Gzip(GzEncoder::new(to, flate2::Compression::default()))
            }
        };
        let text = HEADING.to_vec();
        Ok(Self { body, sum: RowSum::default(), text })
    }

    /// Begins lines with what a file says about itself, as comments, which readers pass over.
    pub(super) fn with_comments(mut self, labels: &Labels) -> Self {
        if !matches!(self.body, Body::Columns(_)) {
            for (name, value) in labels {
                self.text.extend(format!("# {name} {value}\n").bytes());
            }
        }
        self
    }

    /// Writes rows after those before.
    ///
    /// # Errors
    /// The target's, or `InvalidData` for a time that no file is read with.
    pub(super) fn write(&mut self, rows: &[ScannedRow]) -> io::Result<()> {
        for row in rows {
            let event = event_of(row)?;
            self.sum.add(&event);
            if !matches!(self.body, Body::Columns(_)) {
                write_line(&mut self.text, &event);
            }
        }
        let text = std::mem::take(&mut self.text);
        match &mut self.body {
            Body::Plain(to) => to.write_all(&text)?,
            Body::Zstd(to) => to.write_all(&text)?,
            Body::Gzip(to) => to.write_all(&text)?,
            Body::Columns(columns) => columns.write(rows)?,
        }
        self.text = text;
        self.text.clear();
        Ok(())
    }

    /// Hands what is buffered on to the target, where the form can be read in part.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.body {
            Body::Plain(to) => to.flush(),
            Body::Zstd(to) => to.flush(),
            Body::Gzip(to) => to.flush(),
            Body::Columns(_) => Ok(()),
        }
    }

    /// Rows written so far.
    pub(super) fn rows(&self) -> u64 {
        self.sum.rows()
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        // A file of no rows has its heading, too.
        self.write(&[])?;
        let mut summed = match self.body {
            Body::Plain(to) => to.into_inner().map_err(io::IntoInnerError::into_error)?,
            Body::Zstd(to) => to.finish()?,
            Body::Gzip(to) => to.finish()?,
            Body::Columns(columns) => columns.finish()?,
        };
        summed.flush()?;
        Ok(Written {
            rows: self.sum.rows(),
            rows_crc32: self.sum.crc32(),
            bytes: summed.bytes,
            crc32: summed.crc32.finalize(),
        })
    }
}

/// A row as readers see it.
fn event_of(row: &ScannedRow) -> io::Result<Event> {
    let at = row.row.marked_at;
    if at.get() > MARKED_AT_MS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "marked_at = {at} ms of item {} of user {} is out of range (allowed: 0 to \
                 {MARKED_AT_MS_MAX}, the year 9999); is the unit of namespace.columns right?",
                row.row.item, row.user
            ),
        ));
    }
    Ok(Event { user: row.user, item: row.row.item, at })
}
