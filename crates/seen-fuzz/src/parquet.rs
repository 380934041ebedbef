//! Histories as Parquet.

use std::panic;
use std::sync::{Arc, Once};

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::{Target, server};

pub(crate) const HISTORY_PARQUET: Target = Target {
    name: "history_parquet",
    run: parquet,
    seeds: histories,
    // As much is reserved, and not touched, as the head of a page says that the page has when it is unpacked.
    memory_bytes: 2 << 30,
    memory_per_byte: server::HISTORY_FILE.memory_per_byte,
};

/// As the export writes it, and as others do.
const SCHEMAS: [&str; 2] = [
    "message seen {
        REQUIRED INT64 user (INTEGER(64,false));
        REQUIRED INT64 item (INTEGER(64,false));
        REQUIRED INT32 kind (INTEGER(32,false));
        REQUIRED INT64 marked_at (TIMESTAMP(MILLIS,true));
    }",
    "message other {
        OPTIONAL INT64 user;
        OPTIONAL INT32 item (UINT_32);
        OPTIONAL INT64 time (TIMESTAMP(NANOS,false));
    }",
];

/// As lines are. The library's own panics are the reader's to catch, and no news.
fn parquet(bytes: &[u8]) {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            let is_of_library = |at: &panic::Location<'_>| at.file().contains("/parquet-");
            if !what.location().is_some_and(is_of_library) {
                tell(what);
            }
        }));
    });
    server::history_file(bytes);
}

/// Three rows in each of two groups, behind a byte that says how many malformed ones may be.
fn histories() -> Vec<Vec<u8>> {
    let packed = Compression::ZSTD(ZstdLevel::default());
    let forms =
        [(0, Compression::UNCOMPRESSED), (0, packed), (0, Compression::SNAPPY), (1, packed)];
    forms.map(|(schema, codec)| [&[9], &written(SCHEMAS[schema], codec)[..]].concat()).to_vec()
}

fn written(schema: &str, codec: Compression) -> Vec<u8> {
    let is_optional = schema.contains("OPTIONAL");
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema.clone(), Arc::new(properties))
        .expect("a writer");
    for _ in 0..2 {
        let mut group = file.next_row_group().expect("a group");
        for place in 0..schema.get_fields().len() {
            let mut column = group.next_column().expect("a column").expect("one for each field");
            // One of three is NULL where that may be.
            let levels = is_optional.then_some(&[1, 0, 1][..]);
            let values = if is_optional { 2 } else { 3 };
            let narrow =
                schema.get_fields()[place].get_physical_type() == parquet::basic::Type::INT32;
            if narrow {
                let numbers = &[1, 2, 255][..values];
                column.typed::<Int32Type>().write_batch(numbers, levels, None).expect("written");
            } else {
                let numbers = &[1, 1_767_607_260_000, -1][..values];
                column.typed::<Int64Type>().write_batch(numbers, levels, None).expect("written");
            }
            column.close().expect("closed");
        }
        group.close().expect("closed");
    }
    file.close().expect("closed");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_server::history_file::HistoryFile;

    #[test]
    fn the_seeds_are_read_as_histories() {
        for (seed, expected) in histories().into_iter().zip([4, 4, 4, 4]) {
            server::in_file(&seed[1..], |path| {
                let mut file = HistoryFile::open(path, 100).expect("a history");
                let mut rows = 0;
                while file.next_event().expect("few malformed rows").is_some() {
                    rows += 1;
                }
                assert_eq!(rows, expected);
            });
        }
    }
}
