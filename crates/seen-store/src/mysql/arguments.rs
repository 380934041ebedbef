//! What the statements of reads and writes are given, in the order in which they take it.

use seen_filter::history::RecentRequest;
use seen_filter::{Item, UnixMillis, UserId};
use sqlx::Arguments as _;
use sqlx::mysql::MySqlArguments;

use super::mapping::KindColumn;
use super::tables::Table;
use crate::request::TIME_MS_MAX;

/// Binds an id as its column holds it.
pub(crate) fn add_id(
    arguments: &mut MySqlArguments,
    id: u64,
    signed: bool,
) -> Result<(), sqlx::error::BoxDynError> {
    if signed { arguments.add(id.cast_signed()) } else { arguments.add(id) }
}

/// Binds one key, as the table's key columns are.
pub(crate) fn add_key(
    arguments: &mut MySqlArguments,
    table: &Table,
    (user, item): (UserId, Item),
) -> Result<(), sqlx::error::BoxDynError> {
    add_id(arguments, user.get(), table.types.user_signed)?;
    if matches!(table.mapping.kind, KindColumn::Column(_)) {
        arguments.add(item.kind.get())?;
    }
    add_id(arguments, item.id.get(), table.types.item_signed)
}

/// Which of a row's buckets count: those from a horizon on, or this one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    From(u32),
    One(u32),
}

/// Binds the asked keys, padded to the statement's size with keys that were not asked for: distinct
/// ones, since repeats lose TiDB's plan cache. Their rows, if there are any, are ignored.
pub(super) fn check_arguments(
    table: &Table,
    keys: &[(UserId, Item, Buckets)],
    size: usize,
) -> Result<MySqlArguments, sqlx::error::BoxDynError> {
    let mut arguments = MySqlArguments::default();
    arguments.reserve(size * 4 + 1, size * 24);
    let mut add = |user, item, buckets| {
        add_key(&mut arguments, table, (user, item))?;
        if let Buckets::One(bucket) = buckets { arguments.add(bucket) } else { Ok(()) }
    };
    for (user, item, buckets) in keys {
        add(*user, *item, *buckets)?;
    }
    let Some((user, like, buckets)) = keys.last() else { return Ok(arguments) };
    // The keys are sorted.
    let asked =
        |item: &Item| keys.binary_search_by(|key| (key.0, key.1).cmp(&(*user, *item))).is_ok();
    let mut pads = (0..).map(|id| Item::new(like.kind.get(), id)).filter(|item| !asked(item));
    for _ in keys.len()..size {
        let Some(pad) = pads.next() else { break };
        add(*user, pad, *buckets)?;
    }
    if let (true, Buckets::From(horizon)) = (table.has_buckets(), *buckets) {
        arguments.add(horizon)?;
    }
    Ok(arguments)
}

/// Binds the rest of a key, below its user, after which rows are wanted.
pub(super) fn add_after(
    arguments: &mut MySqlArguments,
    table: &Table,
    item: Item,
    bucket: u32,
) -> Result<(), sqlx::error::BoxDynError> {
    if matches!(table.mapping.kind, KindColumn::Column(_)) {
        arguments.add(item.kind.get())?;
        arguments.add(item.kind.get())?;
    }
    add_id(arguments, item.id.get(), table.types.item_signed)?;
    if table.has_buckets() {
        add_id(arguments, item.id.get(), table.types.item_signed)?;
        arguments.add(bucket)?;
    }
    Ok(())
}

/// Binds what a page's statement takes: see `page` of the statements' texts.
pub(super) fn page_arguments(
    table: &Table,
    user: UserId,
    horizon: u32,
    after: Option<(Item, u32)>,
    limit: u64,
) -> Result<MySqlArguments, sqlx::error::BoxDynError> {
    let mut arguments = MySqlArguments::default();
    add_id(&mut arguments, user.get(), table.types.user_signed)?;
    if table.has_buckets() {
        arguments.add(horizon)?;
    }
    if let Some((item, bucket)) = after {
        add_after(&mut arguments, table, item, bucket)?;
    }
    arguments.add(limit)?;
    Ok(arguments)
}

/// Binds what a listing's statement takes: see `recent` of the statements' texts.
pub(super) fn recent_arguments(
    table: &Table,
    request: &RecentRequest,
    horizon: u32,
) -> Result<MySqlArguments, sqlx::error::BoxDynError> {
    let bound = |time: UnixMillis| time.get().min(TIME_MS_MAX);
    // No time lies after the last one, and no kind after 255: this key comes after every row.
    let (time, kind, id) = match request.before {
        Some((time, item)) => (bound(time), u16::from(item.kind.get()), item.id.get()),
        None => (TIME_MS_MAX, 256, 0),
    };
    let mut arguments = MySqlArguments::default();
    add_id(&mut arguments, request.user.get(), table.types.user_signed)?;
    if table.has_buckets() {
        arguments.add(horizon)?;
        arguments.add(horizon)?;
    }
    arguments.add(bound(request.from))?;
    arguments.add(bound(request.until))?;
    arguments.add(time)?;
    arguments.add(time)?;
    arguments.add(kind)?;
    arguments.add(kind)?;
    add_id(&mut arguments, id, table.types.item_signed)?;
    arguments.add(request.rows_max as u64 + 1)?;
    Ok(arguments)
}
