//! Which of the followed tables is meant, and what a statement says about them.

use crate::event::{Event, Position, Scope, What};
use crate::statement::{self, Effect};
use crate::table::FollowedTable;

/// The followed table of this name, and its number. Names that differ in case alone are taken for the
/// same only if no followed table is spelled so: what a server's settings make of them is not known
/// here, and a table passed over would be events lost.
pub(crate) fn find<'a>(
    tables: &'a [FollowedTable],
    database: &str,
    table: &str,
) -> Option<(usize, &'a FollowedTable)> {
    let is = |one: &FollowedTable| one.database == database && one.table == table;
    let is_like = |one: &FollowedTable| {
        one.database.eq_ignore_ascii_case(database) && one.table.eq_ignore_ascii_case(table)
    };
    let all = || tables.iter().enumerate();
    all().find(|(_, one)| is(one)).or_else(|| all().find(|(_, one)| is_like(one)))
}

/// What a statement says about the followed tables: at least one event. `database` is where its
/// unqualified names lie, empty where that is not known.
pub(crate) fn ddl(
    tables: &[FollowedTable],
    text: &str,
    database: &str,
    position: Option<&Position>,
    out: &mut Vec<Event>,
) {
    let database = Some(database).filter(|name| !name.is_empty());
    let effects = statement::effects(text, database, tables);
    if effects.is_empty() {
        out.push(Event { position: position.cloned(), ..Event::ignore("other_table") });
    }
    for (table, effect) in effects {
        let mut push = |what, reason| {
            let position = position.cloned();
            out.push(Event { table: Some(table), what, position, reason: Some(reason) });
        };
        match effect {
            Effect::Gone(reason) => push(What::Truncate, reason),
            Effect::Changed => push(What::Ddl, "ddl"),
            Effect::Doubted(reason) => push(What::Dirty(Scope::Table), reason),
        }
    }
}
