//! Change events of another store as marks: how an old history is taken along while a new one is filled.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use seen_dialect::{Dialect, Event, FollowedTable, Record, What};
use seen_filter::Item;
use seen_kafka::ingest::{Mark, Said};
use seen_kafka::{RecordDecoder, SchemaOptions};
use seen_proto::limits::MARKED_AT_MS_MAX;

/// A record whose schema is not known yet: it may be, once somebody adds it or the registry is back.
const SCHEMA_UNKNOWN: &str = "schema_unknown";

/// Reads records of a change pipeline.
#[derive(Debug)]
pub(super) struct Changes {
    namespace: String,
    decoder: Mutex<RecordDecoder>,
}

impl Changes {
    /// Rows of these tables become items of this history.
    pub(super) fn new(
        namespace: String,
        tables: Vec<FollowedTable>,
        dialect: Option<Dialect>,
        schemas: &SchemaOptions,
    ) -> Self {
        Self { namespace, decoder: Mutex::new(RecordDecoder::new(tables, dialect, schemas)) }
    }

    /// Every row that is there now is a mark. What takes rows away is none: unmarking here what was
    /// unmarked there could take away, told again later, what has been marked here since.
    pub(super) fn read(&self, record: &Record<'_>) -> Said {
        let mut events = Vec::new();
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner).decode(record, &mut events);
        let mut users: BTreeMap<u64, Vec<(Item, Option<u64>)>> = BTreeMap::new();
        let mut said = Said::default();
        for event in events {
            if matches!(event.what, What::Dirty(_)) && event.reason == Some(SCHEMA_UNKNOWN) {
                return Said { later: Some(SCHEMA_UNKNOWN), ..Said::default() };
            }
            match dead(&event) {
                Some(reason) => said.dead = said.dead.or(Some(reason)),
                None => {
                    if let What::Upsert { user, item, marked_at_ms } = event.what {
                        let at = marked_at_ms.filter(|at| *at <= MARKED_AT_MS_MAX);
                        users.entry(user.get()).or_default().push((item, at));
                    }
                }
            }
        }
        let mark = |(user, items)| Mark { namespace: self.namespace.clone(), user, items };
        said.marks = users.into_iter().map(mark).collect();
        said
    }
}

/// Why an event is neither a mark nor nothing.
fn dead(event: &Event) -> Option<&'static str> {
    match event.what {
        What::Delete { .. } => Some("row_deleted"),
        What::Truncate => Some("table_truncated"),
        // The row itself is told all the same.
        What::Dirty(_) if event.reason == Some("before_unknown") => None,
        What::Dirty(_) => Some(event.reason.unwrap_or("unreadable")),
        What::Upsert { .. }
        | What::Control(_)
        | What::Ddl
        | What::Heartbeat
        | What::Watermark
        | What::Ignore => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: impl AsRef<[u8]>) -> Said {
        let tables = vec![FollowedTable::own("old", "reads")];
        let changes = Changes::new("first".to_owned(), tables, None, &SchemaOptions::default());
        let value = Some(value.as_ref());
        changes.read(&Record { topic: "t", value, ..Record::default() })
    }

    fn canal(kind: &str, rows: &str) -> String {
        format!(
            r#"{{"data":[{rows}],"database":"old","table":"reads","type":"{kind}","isDdl":false,
                "es":1790000000000,"ts":1790000000001,"id":1,"old":null,"pkNames":["user_id"],"sql":"",
                "mysqlType":{{"user_id":"bigint(20) unsigned","kind":"tinyint(3) unsigned",
                "item_id":"bigint(20) unsigned","marked_at_ms":"bigint(20)"}},"sqlType":{{}}}}"#
        )
    }

    fn row(user: u64, item: u64) -> String {
        format!(r#"{{"user_id":"{user}","kind":"1","item_id":"{item}","marked_at_ms":"5"}}"#)
    }

    #[test]
    fn rows_become_marks_of_their_users() {
        let rows = [row(u64::MAX, 7), row(2, 8), row(u64::MAX, 9)].join(",");
        let said = read(canal("INSERT", &rows));
        let mark = |user, items: &[u64]| Mark {
            namespace: "first".to_owned(),
            user,
            items: items.iter().map(|id| (Item::new(1, *id), Some(5))).collect(),
        };
        let marks = vec![mark(2, &[8]), mark(u64::MAX, &[7, 9])];
        assert_eq!(said, Said { marks, ..Said::default() });
    }

    #[test]
    fn what_is_no_mark_is_kept_or_passed_over() {
        let said = read(canal("DELETE", &row(1, 7)));
        assert_eq!(said, Said { dead: Some("row_deleted"), ..Said::default() });
        assert_eq!(read("{\"x\":1}").dead, Some("format_unknown"));
        let other = canal("INSERT", &row(1, 7)).replace("\"reads\"", "\"others\"");
        assert_eq!(read(other), Said::default());
    }
    /// Nothing of it is lost while its schema is not to be had.
    #[test]
    fn a_row_of_an_unknown_schema_is_for_later() {
        let said = read([0, 0, 0, 0, 7, 2, 2, 4, 6]);
        assert_eq!(said, Said { later: Some(SCHEMA_UNKNOWN), ..Said::default() });
    }
}
