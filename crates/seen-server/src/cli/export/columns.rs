//! Rows as Parquet.

use std::io;
use std::sync::Arc;

use parquet::basic::{
    Compression as Codec, GzipLevel, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use seen_filter::ScannedRow;

use super::encode::{Labels, Summed};
use super::manifest::Compression;

/// Rows that are kept in memory until they are written together: some 4 MB.
const GROUP_ROWS: usize = 131_072;

/// Writes rows, group by group.
pub(super) struct Columns {
    writer: SerializedFileWriter<Summed>,
    users: Vec<i64>,
    items: Vec<i64>,
    kinds: Vec<i32>,
    times: Vec<i64>,
    buckets: Vec<i32>,
}

impl Columns {
    pub(super) fn new(to: Summed, compress: Compression, labels: &Labels) -> io::Result<Self> {
        let codec = match compress {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
            Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        };
        let labels =
            labels.iter().map(|(name, value)| KeyValue::new((*name).to_owned(), value.clone()));
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_created_by(concat!("seen ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(labels.collect()))
            .build();
        let writer = SerializedFileWriter::new(to, schema().map_err(failed)?, Arc::new(properties));
        Ok(Self {
            writer: writer.map_err(failed)?,
            users: Vec::new(),
            items: Vec::new(),
            kinds: Vec::new(),
            times: Vec::new(),
            buckets: Vec::new(),
        })
    }

    pub(super) fn write(&mut self, rows: &[ScannedRow]) -> io::Result<()> {
        for ScannedRow { user, row } in rows {
            // Unsigned numbers are stored as the signed ones with the same bits.
            self.users.push(user.get().cast_signed());
            self.items.push(row.item.id.get().cast_signed());
            self.kinds.push(row.item.kind.get().into());
            self.times.push(row.marked_at.get().cast_signed());
            self.buckets.push(row.bucket.cast_signed());
        }
        if self.users.len() >= GROUP_ROWS { self.write_group().map_err(failed) } else { Ok(()) }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        if self.users.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        column::<Int64Type>(&mut group, &mut self.users)?;
        column::<Int64Type>(&mut group, &mut self.items)?;
        column::<Int32Type>(&mut group, &mut self.kinds)?;
        column::<Int64Type>(&mut group, &mut self.times)?;
        column::<Int32Type>(&mut group, &mut self.buckets)?;
        group.close()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Summed> {
        self.write_group().map_err(failed)?;
        self.writer.into_inner().map_err(failed)
    }
}

/// Writes the next column, and empties it.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Summed>,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()?;
    }
    values.clear();
    Ok(())
}

fn schema() -> Result<TypePtr, ParquetError> {
    let unsigned = |bits| LogicalType::integer(bits, false);
    let columns = [
        ("user", Physical::INT64, unsigned(64)),
        ("item", Physical::INT64, unsigned(64)),
        ("kind", Physical::INT32, unsigned(32)),
        ("marked_at", Physical::INT64, LogicalType::timestamp(true, TimeUnit::MILLIS)),
        ("bucket", Physical::INT32, unsigned(32)),
    ];
    let column = |(name, physical, logical)| {
        let builder = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(Some(logical));
        builder.build().map(Arc::new)
    };
    let columns: Result<Vec<_>, _> = columns.into_iter().map(column).collect();
    Ok(Arc::new(Type::group_type_builder("history").with_fields(columns?).build()?))
}

/// What the file said, where the library only passes it on.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
