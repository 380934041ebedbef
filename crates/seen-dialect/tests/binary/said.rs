//! What a decoder says, as short lines.

use seen_dialect::{Decoder, Event, FollowedTable, Position, Record, Scope, What};

/// A decoder of `test.feed_read` and the control table beside it.
pub fn decoder() -> Decoder {
    let tables = vec![FollowedTable::own("test", "feed_read"), FollowedTable::control("test")];
    Decoder::new(tables, None)
}

/// An event as a line, without its position.
pub fn line(event: &Event) -> String {
    let reason = event.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
    match event.what {
        What::Upsert { user, item, marked_at_ms } => {
            let time = marked_at_ms.map_or_else(|| "?".to_owned(), |time| time.to_string());
            format!("upsert {user} {} {} {time}", item.kind, item.id)
        }
        What::Delete { user, item } => format!("delete {user} {} {}", item.kind, item.id),
        What::Control(row) => {
            format!("control {} {} {} {}", row.user, row.namespace, row.writer, row.seq)
        }
        What::Dirty(Scope::User(user)) => format!("dirty user {user}{reason}"),
        What::Dirty(Scope::Partition) => format!("dirty partition{reason}"),
        What::Dirty(Scope::Table) => format!("dirty table{reason}"),
        _ => format!("{}{reason}", event.what.name()),
    }
}

/// What a record says, each event as a line.
pub fn said(decoder: &mut Decoder, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<String> {
    let mut out = Vec::new();
    decoder.decode(&Record { key, value, ..Record::default() }, &mut out);
    assert!(!out.is_empty(), "a record is never passed over");
    out.iter().map(line).collect()
}

/// The commit timestamps of a record's events.
pub fn positions(decoder: &mut Decoder, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u64> {
    let mut out = Vec::new();
    decoder.decode(&Record { key, value, ..Record::default() }, &mut out);
    let ts = |event: &Event| match event.position {
        Some(Position::CommitTs(ts)) => ts,
        ref other => panic!("{other:?} of {event:?}"),
    };
    out.iter().map(ts).collect()
}
