//! Rows of a Parquet file, some thousand at a time.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use seen_filter::{Item, UnixMillis, UserId};
use seen_proto::limits::MARKED_AT_MS_MAX;

use super::columns::{ColumnNames, KindColumn};
use super::line::millis_of;
use super::row_sum::{ROW_BYTES, RowSum};
use super::{Event, Malformed, Position};

/// What such a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"PAR1";
/// Rows that are read at once.
const BATCH_ROWS: usize = 8_192;

/// What a column's numbers stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Unsigned,
    Signed,
    Millis,
    Micros,
    Nanos,
    /// Seconds or milliseconds, whichever is likelier.
    Whole,
}

/// A column that is read.
struct Column {
    role: &'static str,
    place: usize,
    meaning: Meaning,
    may_be_null: bool,
    reader: Option<ColumnReader>,
    /// The batch's values; of a narrow unsigned column widened without its sign.
    values: Vec<Option<i64>>,
}

/// The rows of a file, in its order.
pub(super) struct ParquetRows {
    reader: SerializedFileReader<File>,
    /// User, item and time, and the kind if it is in a column.
    columns: Vec<Column>,
    kind: u8,
    groups_read: usize,
    /// The next row of the batch.
    next: usize,
    records: u64,
    sum: RowSum,
    /// Reading has failed: what the library holds is not to be used any more.
    is_damaged: bool,
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn failed(error: ParquetError) -> io::Error {
    invalid(error.to_string())
}

/// The library panics at some of what a damaged file says, and whoever reads on is told of it as of any other damage.
fn guarded<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let damaged = |_| Err(invalid("it is damaged: it says what no Parquet file can".to_owned()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(damaged)
}

impl ParquetRows {
    /// Opens a file and finds the columns.
    pub(super) fn open(file: File, names: &ColumnNames) -> io::Result<Self> {
        guarded(|| Self::found(file, names))
    }

    fn found(file: File, names: &ColumnNames) -> io::Result<Self> {
        let reader = SerializedFileReader::new(file).map_err(failed)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let user = [names.user.clone()];
        let item = [names.item.clone()];
        let mut columns = vec![
            Column::id("user", needed(&schema, "user", &user)?)?,
            Column::id("item", needed(&schema, "item", &item)?)?,
            Column::time(needed(&schema, "time", &names.time)?)?,
        ];
        let kind = match &names.kind {
            KindColumn::Constant(kind) => *kind,
            KindColumn::Column(name) => {
                let name = [name.clone()];
                columns.push(Column::id("kind", needed(&schema, "kind", &name)?)?);
                0
            }
            KindColumn::IfThere(name) => {
                let place = place(&schema, name);
                let found = place.map(|place| Column::id("kind", (place, schema.column(place))));
                columns.extend(found.transpose()?);
                0
            }
        };
        let sum = RowSum::default();
        Ok(Self {
            reader,
            columns,
            kind,
            groups_read: 0,
            next: 0,
            records: 0,
            sum,
            is_damaged: false,
        })
    }

    /// How far it has been read.
    pub(super) fn position(&self) -> Position {
        Position { lines: self.records, bytes: self.bytes(), crc32: self.sum.crc32() }
    }

    /// Rows that were read.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Rows as bytes, so that more rows are more of them.
    pub(super) fn bytes(&self) -> u64 {
        self.records * ROW_BYTES
    }

    /// The next row, or what is wrong with it; `None` at the end.
    pub(super) fn next_row(&mut self) -> io::Result<Option<Result<Event, Malformed>>> {
        while self.next >= self.columns[0].values.len() {
            if self.is_damaged {
                return Err(invalid("it is damaged".to_owned()));
            }
            let read = guarded(|| self.next_batch());
            self.is_damaged = read.is_err();
            if self.is_damaged {
                self.columns.iter_mut().for_each(|column| column.values.clear());
            }
            if !read? {
                return Ok(None);
            }
        }
        let row = self.event(self.next);
        self.next += 1;
        self.records += 1;
        let line = self.records;
        Ok(Some(match row {
            Ok(event) => {
                self.sum.add(&event);
                Ok(event)
            }
            Err((what, text)) => Err(Malformed { line, what, text }),
        }))
    }

    /// Fills the batch; false at the end.
    fn next_batch(&mut self) -> io::Result<bool> {
        self.next = 0;
        loop {
            for column in &mut self.columns {
                column.fill().map_err(failed)?;
            }
            let rows = self.columns[0].values.len();
            if let Some(short) = self.columns.iter().find(|one| one.values.len() != rows) {
                return Err(invalid(format!("column {} ends before the others", short.role)));
            }
            if rows > 0 {
                return Ok(true);
            }
            if self.groups_read == self.reader.num_row_groups() {
                return Ok(false);
            }
            let group = self.reader.get_row_group(self.groups_read).map_err(failed)?;
            for column in &mut self.columns {
                column.reader = Some(group.get_column_reader(column.place).map_err(failed)?);
            }
            self.groups_read += 1;
        }
    }

    /// A row of the batch, or what is wrong with it and its values.
    fn event(&self, row: usize) -> Result<Event, (String, String)> {
        let read = || -> Result<Event, String> {
            let number = |at: usize| self.columns.get(at).map(|column| column.number(row));
            let user = number(0).unwrap_or(Ok(0))?;
            let item = number(1).unwrap_or(Ok(0))?;
            let time = number(2).unwrap_or(Ok(0))?;
            let kind = number(3).unwrap_or(Ok(self.kind.into()))?;
            let kind = u8::try_from(kind)
                .map_err(|_| "kind is no whole number from 0 to 255".to_owned())?;
            if time > MARKED_AT_MS_MAX {
                return Err("time is beyond the year 9999".to_owned());
            }
            let (user, at) = (UserId::new(user), UnixMillis::new(time));
            Ok(Event { user, item: Item::new(kind, item), at })
        };
        read().map_err(|what| {
            let values = self.columns.iter().map(|column| {
                let value = column.values.get(row).copied().flatten();
                let value = value.map_or("NULL".to_owned(), |value| value.to_string());
                format!("{}={value}", column.role)
            });
            (what, values.collect::<Vec<_>>().join(" "))
        })
    }
}

/// Where a column of this name is, at the top of the schema.
fn place(schema: &SchemaDescriptor, name: &str) -> Option<usize> {
    let is_it = |column: &ColumnDescriptor| column.path().string() == name;
    (0..schema.num_columns()).find(|place| is_it(&schema.column(*place)))
}

type Found = (usize, parquet::schema::types::ColumnDescPtr);

fn needed(schema: &SchemaDescriptor, role: &str, names: &[String]) -> io::Result<Found> {
    let found = names.iter().find_map(|name| place(schema, name));
    found.map(|place| (place, schema.column(place))).ok_or_else(|| {
        let there: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
        let (names, there) = (names.join(" or "), there.join(", "));
        invalid(format!(
            "there is no column {names} for the {role} (there are {there}); name it with --columns \
             {role}=COLUMN"
        ))
    })
}

impl Column {
    fn id(role: &'static str, found: Found) -> io::Result<Self> {
        let (_, column) = &found;
        let meaning = match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Integer(integer)), _) if !integer.is_signed => Meaning::Unsigned,
            (Some(LogicalType::Integer(_)), _) => Meaning::Signed,
            (None, ConvertedType::UINT_8 | ConvertedType::UINT_16) => Meaning::Unsigned,
            (None, ConvertedType::UINT_32 | ConvertedType::UINT_64) => Meaning::Unsigned,
            (None, ConvertedType::NONE | ConvertedType::INT_8 | ConvertedType::INT_16) => {
                Meaning::Signed
            }
            (None, ConvertedType::INT_32 | ConvertedType::INT_64) => Meaning::Signed,
            _ => return Err(no_number(role, column)),
        };
        Self::new(role, found, meaning)
    }

    fn time(found: Found) -> io::Result<Self> {
        let (_, column) = &found;
        let meaning = match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(timestamp)), _) => match timestamp.unit {
                TimeUnit::MILLIS => Meaning::Millis,
                TimeUnit::MICROS => Meaning::Micros,
                TimeUnit::NANOS => Meaning::Nanos,
            },
            (None, ConvertedType::TIMESTAMP_MILLIS) => Meaning::Millis,
            (None, ConvertedType::TIMESTAMP_MICROS) => Meaning::Micros,
            (Some(LogicalType::Integer(_)), _) | (None, ConvertedType::NONE) => Meaning::Whole,
            (None, ConvertedType::INT_64 | ConvertedType::UINT_64) => Meaning::Whole,
            _ => return Err(no_number("time", column)),
        };
        Self::new("time", found, meaning)
    }

    fn new(role: &'static str, (place, column): Found, meaning: Meaning) -> io::Result<Self> {
        let is_number = matches!(column.physical_type(), Physical::INT32 | Physical::INT64);
        if !is_number || column.max_rep_level() > 0 {
            return Err(no_number(role, &column));
        }
        let may_be_null = column.max_def_level() > 0;
        Ok(Self { role, place, meaning, may_be_null, reader: None, values: Vec::new() })
    }

    /// Reads the next values, of the row group that is open.
    fn fill(&mut self) -> Result<(), ParquetError> {
        self.values.clear();
        let (nulls, values) = (self.may_be_null, &mut self.values);
        match (&mut self.reader, self.meaning) {
            (Some(ColumnReader::Int32ColumnReader(reader)), Meaning::Unsigned) => {
                read(reader, nulls, values, |value| value.cast_unsigned().into())
            }
            (Some(ColumnReader::Int32ColumnReader(reader)), _) => {
                read(reader, nulls, values, i64::from)
            }
            (Some(ColumnReader::Int64ColumnReader(reader)), _) => {
                read(reader, nulls, values, |value| value)
            }
            _ => Ok(()),
        }
    }

    /// A value of the batch; times in milliseconds.
    fn number(&self, row: usize) -> Result<u64, String> {
        let role = self.role;
        let value = self.values.get(row).copied().flatten();
        let value = value.ok_or_else(|| format!("{role} is NULL"))?;
        if self.meaning == Meaning::Unsigned {
            return Ok(value.cast_unsigned());
        }
        let value = u64::try_from(value).map_err(|_| format!("{role} = {value} is below 0"))?;
        Ok(match self.meaning {
            Meaning::Micros => value / 1_000,
            Meaning::Nanos => value / 1_000_000,
            Meaning::Whole => millis_of(value),
            Meaning::Unsigned | Meaning::Signed | Meaning::Millis => value,
        })
    }
}

fn no_number(role: &str, column: &ColumnDescriptor) -> io::Error {
    invalid(format!(
        "column {} is {} ({}), and the {role} is to be {}",
        column.path().string(),
        column.physical_type(),
        column.converted_type(),
        if role == "time" { "a TIMESTAMP of INT64, or a number" } else { "a whole number" }
    ))
}

/// Reads up to [`BATCH_ROWS`] values.
fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    may_be_null: bool,
    out: &mut Vec<Option<i64>>,
    widen: impl Fn(T::T) -> i64,
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(BATCH_ROWS), Vec::new());
    let wanted = may_be_null.then_some(&mut levels);
    reader.read_records(BATCH_ROWS, wanted, None, &mut values)?;
    let mut values = values.into_iter().map(widen);
    if may_be_null {
        out.extend(levels.iter().map(|level| if *level > 0 { values.next() } else { None }));
    } else {
        out.extend(values.map(Some));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
