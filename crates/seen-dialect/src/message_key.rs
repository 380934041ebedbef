//! What a record's own key says: for a record whose value cannot be read, whom that puts in doubt.
//!
//! Only Debezium-shaped keys are believed: its producers send a change of a key's column as two
//! records, so that one record is about its key's user alone. A Maxwell key (`pk.user_id`) names the
//! user that a row has now, and the same record may be about the one that it had before.

use seen_filter::UserId;

use crate::cell::{Cell, Role};
use crate::event::{Event, Scope, What};
use crate::json::{self, Object};
use crate::meaning::whole;
use crate::record::Record;
use crate::table::{FollowedTable, KindOf, TableRole};
use crate::value::{self, Texts};

/// A doubt about the key's user, else about the partition.
pub(crate) fn doubt(tables: &[FollowedTable], record: &Record<'_>, reason: &'static str) -> Event {
    let user = columns(record).and_then(|key| {
        let mut users = tables.iter().filter_map(|table| user(table, &key));
        let first = users.next()?;
        users.all(|other| other == first).then_some(first)
    });
    Event::dirty(user.map_or(Scope::Partition, Scope::User), reason)
}

/// Settles whom the doubts among these events of one row are about. A row that cannot be read is the
/// key's user's. A row of which nothing is known before its change was the same user's if that user is
/// in the key; else it may have been anybody's.
pub(crate) fn settle(tables: &[FollowedTable], record: &Record<'_>, events: &mut [Event]) {
    for event in events {
        let What::Dirty(scope) = event.what else { continue };
        let Some(table) = event.table.and_then(|at| tables.get(at)) else { continue };
        if !matches!(table.role, TableRole::History { .. }) {
            continue;
        }
        let is_moved = event.reason == Some("before_unknown");
        let of_key = || columns(record).and_then(|key| user(table, &key)).map(Scope::User);
        event.what = What::Dirty(match scope {
            Scope::Partition => of_key().unwrap_or(scope),
            Scope::User(_) if is_moved && of_key() != Some(scope) => Scope::Partition,
            Scope::User(_) | Scope::Table => scope,
        });
    }
}

/// True if the key holds a history's whole primary key: then each row has its own key, and a record
/// that tells of a row's change does not tell of another row's end.
pub(crate) fn is_whole(table: &FollowedTable, record: &Record<'_>) -> bool {
    let TableRole::History { kind, .. } = &table.role else { return false };
    let Some(key) = columns(record) else { return false };
    let image = value::image(table, &key, Texts::DecimalOrBase64);
    let has = |role| image.cell(role) != Cell::Missing;
    has(Role::User) && has(Role::Item) && (matches!(kind, KindOf::Constant(_)) || has(Role::Kind))
}

fn user(table: &FollowedTable, key: &Object<'_>) -> Option<UserId> {
    let image = value::image(table, key, Texts::DecimalOrBase64);
    whole(image.cell(Role::User)).ok().map(UserId::new)
}

fn columns<'a>(record: &Record<'a>) -> Option<Object<'a>> {
    json::object(record.key?)?.into_payload()
}

#[cfg(test)]
mod tests {
    use seen_filter::Kind;

    use super::*;

    fn keyed(key: &str) -> Record<'_> {
        Record { key: Some(key.as_bytes()), ..Record::default() }
    }

    fn scope(key: &str) -> What {
        doubt(&[FollowedTable::own("db", "t")], &keyed(key), "why").what
    }

    #[test]
    fn a_key_that_names_the_user_narrows_a_doubt() {
        let user = |id| What::Dirty(Scope::User(UserId::new(id)));
        let partition = What::Dirty(Scope::Partition);
        for (key, expected) in [
            (r#"{"user_id":7}"#, user(7)),
            (r#"{"user_id":-1}"#, user(u64::MAX)),
            (r#"{"user_id":"AP//////////"}"#, user(u64::MAX)),
            (r#"{"schema":{"type":"struct"},"payload":{"user_id":7,"item_id":1}}"#, user(7)),
            (r#"{"payload":{"user_id":7}}"#, user(7)),
            (r#"{"database":"db","table":"t","pk.user_id":7}"#, partition),
            (r#"{"user_id":1.5}"#, partition),
            (r#"{"user_id":null}"#, partition),
            (r#"{"id":7}"#, partition),
            ("7", partition),
            ("", partition),
        ] {
            assert_eq!(scope(key), expected, "{key}");
        }
        assert_eq!(doubt(&[], &Record::default(), "why").what, partition);
    }

    #[test]
    fn a_whole_key_has_every_column_that_is_mapped() {
        let mut table = FollowedTable::own("db", "t");
        assert!(is_whole(&table, &keyed(r#"{"user_id":7,"kind":1,"item_id":1}"#)));
        assert!(!is_whole(&table, &keyed(r#"{"user_id":7,"item_id":1}"#)));
        assert!(!is_whole(&table, &keyed(r#"{"user_id":7}"#)));
        assert!(!is_whole(&table, &Record::default()));
        if let TableRole::History { kind, .. } = &mut table.role {
            *kind = KindOf::Constant(Kind::new(3));
        }
        assert!(is_whole(&table, &keyed(r#"{"user_id":7,"item_id":1}"#)));
        assert!(!is_whole(&FollowedTable::control("db"), &keyed(r#"{"user_id":7,"seq":1}"#)));
    }
}
