use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Repetition, Type as Physical};
use parquet::data_type::{Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::history_file::{HistoryFile, HistoryFileError};

const RFC: u64 = 1_767_607_260_000;

/// A column's numbers, of which those that are there are written.
enum Numbers {
    Narrow(Vec<Option<i32>>),
    Wide(Vec<Option<i64>>),
}

/// Writes a file of two row groups, each with these columns.
fn file(folder: &Path, message: &str, columns: &[Numbers]) -> std::path::PathBuf {
    let path = folder.join("rows.parquet");
    let schema = Arc::new(parse_message_type(message).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().build());
    let to = File::create(&path).expect("a file");
    let mut writer = SerializedFileWriter::new(to, schema, properties).expect("a writer");
    for _ in 0..2 {
        let mut group = writer.next_row_group().expect("a group");
        for numbers in columns {
            let mut column = group.next_column().expect("a column").expect("one for each");
            let levels = |there: Vec<bool>| there.into_iter().map(i16::from).collect::<Vec<_>>();
            match numbers {
                Numbers::Narrow(all) => {
                    let there = levels(all.iter().map(Option::is_some).collect());
                    let values: Vec<i32> = all.iter().copied().flatten().collect();
                    let typed = column.typed::<Int32Type>();
                    typed.write_batch(&values, Some(&there), None).expect("written");
                }
                Numbers::Wide(all) => {
                    let there = levels(all.iter().map(Option::is_some).collect());
                    let values: Vec<i64> = all.iter().copied().flatten().collect();
                    let typed = column.typed::<Int64Type>();
                    typed.write_batch(&values, Some(&there), None).expect("written");
                }
            }
            column.close().expect("closed");
        }
        group.close().expect("closed");
    }
    writer.close().expect("closed");
    path
}

fn wide(numbers: impl IntoIterator<Item = i64>) -> Numbers {
    Numbers::Wide(numbers.into_iter().map(Some).collect())
}

fn all(file: &mut HistoryFile) -> Vec<(u64, u8, u64, u64)> {
    let mut rows = Vec::new();
    while let Some(event) = file.next_event().expect("readable") {
        let (kind, id) = (event.item.kind.get(), event.item.id.get());
        rows.push((event.user.get(), kind, id, event.at.get()));
    }
    rows
}

#[test]
fn columns_of_others_are_read_by_name_and_malformed_rows_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = "message theirs { optional int64 read_at (TIMESTAMP(MICROS, true)); \
                   required int32 article (INTEGER(32, false)); optional int64 member; \
                   optional int32 class; }";
    let at = RFC.cast_signed() * 1_000;
    let path = file(
        folder.path(),
        message,
        &[
            Numbers::Wide(vec![Some(at), Some(at + 1_999), None, Some(-5), Some(at)]),
            Numbers::Narrow([1, -1, 3, 4, 5].map(Some).to_vec()),
            Numbers::Wide(vec![Some(7), Some(i64::MAX), Some(7), Some(7), Some(-7)]),
            Numbers::Narrow(vec![Some(2), Some(255), Some(2), Some(2), None]),
        ],
    );
    let names = "user=member,item=article,kind=class,time=read_at".parse().expect("names");
    let mut file = HistoryFile::open_named(&path, 6, Some(&names)).expect("a file");
    let group = [(7, 2, 1, RFC), (i64::MAX as u64, 255, u32::MAX.into(), RFC + 1)];
    assert_eq!(all(&mut file), [group, group].concat());
    assert_eq!((file.malformed(), file.position().lines), (6, 10));
    let first = file.first_malformed();
    assert_eq!((first[0].line, first[0].what.as_str()), (3, "time is NULL"));
    assert!(first[1].what.contains("time = -5 is below 0"), "{}", first[1]);
    assert!(first[2].text.contains("user=-7"), "{}", first[2]);
    let mut file = HistoryFile::open_named(&path, 5, Some(&names)).expect("a file");
    let error = loop {
        match file.next_event() {
            Ok(event) => assert!(event.is_some(), "one malformed row too many"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, HistoryFileError::TooManyMalformed { malformed: 6, .. }), "{error}");
}

#[test]
fn a_file_is_gone_on_with_where_it_was_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = "message m { required int64 user (INTEGER(64, false)); required int64 item; \
                   required int64 time; }";
    let many = 20_000;
    let users = wide((0..many).map(|n| -1 - n));
    let path = file(folder.path(), message, &[users, wide(0..many), wide((0..many).map(|_| 5))]);
    let mut whole = HistoryFile::open(&path, 0).expect("a file");
    let rows = all(&mut whole);
    assert_eq!((rows.len() as i64, rows[0]), (2 * many, (u64::MAX, 0, 0, 5_000)));
    let mut part = HistoryFile::open(&path, 0).expect("a file");
    for _ in 0..12_345 {
        part.next_event().expect("readable").expect("a row");
    }
    let position = part.position();
    let mut again = HistoryFile::open(&path, 0).expect("a file");
    let mut read = 0;
    again.read_again(position, |_| read += 1).expect("the same file");
    assert_eq!((read, all(&mut again)), (12_345, rows[12_345..].to_vec()));
    let other = Position { crc32: position.crc32 ^ 1, ..position };
    let mut again = HistoryFile::open(&path, 0).expect("a file");
    let refused = again.read_again(other, |_| {}).expect_err("another file");
    assert!(matches!(refused, HistoryFileError::Changed { .. }), "{refused}");
}

#[test]
fn what_is_no_history_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refusal = |message: &str, columns: &[Numbers], names: Option<&str>| {
        let path = file(folder.path(), message, columns);
        let names = names.map(|names| names.parse().expect("names"));
        match HistoryFile::open_named(&path, 0, names.as_ref()) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        }
    };
    let two = "message m { required int64 user; required int64 item; }";
    let said = refusal(two, &[wide([1]), wide([1])], None);
    assert!(
        said.contains("no column marked_at or time for the time (there are user, item)"),
        "{said}"
    );
    let said = refusal(two, &[wide([1]), wide([1])], Some("time=item,kind=class"));
    assert!(said.contains("no column class for the kind"), "{said}");
    let dated =
        "message m { required int64 user; required int64 item; required int32 time (DATE); }";
    let days = Numbers::Narrow(vec![Some(1)]);
    let said = refusal(dated, &[wide([1]), wide([1]), days], None);
    assert!(said.contains("column time is INT32 (DATE)"), "{said}");
    let lines = folder.path().join("h.tsv");
    std::fs::write(&lines, "1\t2\t3\n").expect("written");
    let names = ColumnNames::default();
    let said = HistoryFile::open_named(&lines, 0, Some(&names)).expect_err("lines have no names");
    assert!(said.to_string().contains("--columns"), "{said}");
    let cut = file(folder.path(), two, &[wide([1]), wide([1])]);
    let bytes = std::fs::read(&cut).expect("a file");
    std::fs::write(&cut, &bytes[..bytes.len() - 9]).expect("written");
    assert!(HistoryFile::open(&cut, 0).is_err(), "it has lost its end");
}

/// The form of what this program writes: every column is there in every row.
#[test]
fn columns_that_repeat_are_no_ids() {
    let message = "message m { repeated int64 user; required int64 item; required int64 time; }";
    let schema = SchemaDescriptor::new(Arc::new(parse_message_type(message).expect("a schema")));
    let column = schema.column(0);
    assert_eq!((column.physical_type(), column.max_rep_level()), (Physical::INT64, 1));
    assert_eq!(column.self_type().get_basic_info().repetition(), Repetition::REPEATED);
    assert!(Column::id("user", (0, column)).is_err());
}

#[test]
fn a_damaged_file_is_read_or_refused_whatever_was_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = "message m { optional int64 user; required int64 item; required int64 time; }";
    let numbers = || wide([1, 2, 3]);
    let path = file(folder.path(), message, &[numbers(), numbers(), numbers()]);
    let whole = std::fs::read(&path).expect("a file");
    let mut refused = 0;
    for at in 0..whole.len() {
        for byte in [0, 0x7f, 0x80, 0xff, whole[at] ^ 1] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            std::fs::write(&path, bytes).expect("written");
            let Ok(mut file) = HistoryFile::open(&path, 1_000) else { continue };
            let error = loop {
                match file.next_event() {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            if error.is_some() {
                refused += 1;
                assert!(file.next_event().is_err(), "byte {at}: read on after an error");
            }
        }
    }
    assert!(refused > 0);
}
