//! Changes of rows, and what they mean.

use super::*;

const USER: UserId = UserId::new(7);

fn image(cells: &[(Role, Cell)]) -> Image {
    let mut image = Image::default();
    for (role, cell) in cells {
        image.set(*role, *cell);
    }
    image
}

/// A row of user 7 and kind 2.
fn row(item: i128) -> Image {
    with(Role::Item, Cell::Number(item))
}

fn with(role: Role, cell: Cell) -> Image {
    let mut row = image(&[
        (Role::User, Cell::Number(7)),
        (Role::Item, Cell::Number(1)),
        (Role::Kind, Cell::Number(2)),
        (Role::Time, Cell::Number(5)),
    ]);
    row.set(role, cell);
    row
}

fn told_of(table: &FollowedTable, kind: RowKind, before: Before, after: Image) -> Vec<Event> {
    let position = Some(Position::CommitTs(3));
    let change = RowChange { table: 4, kind, before, after, position: position.clone() };
    let mut events = Vec::new();
    change.tell(table, &mut events);
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| event.table == Some(4) && event.position == position));
    events
}

fn told(kind: RowKind, before: Before, after: Image) -> Vec<(What, Option<&'static str>)> {
    let events = told_of(&FollowedTable::own("db", "t"), kind, before, after);
    events.into_iter().map(|event| (event.what, event.reason)).collect()
}

fn upsert(item: u64) -> (What, Option<&'static str>) {
    (What::Upsert { user: USER, item: Item::new(2, item), marked_at_ms: Some(5) }, None)
}

fn delete(item: u64) -> (What, Option<&'static str>) {
    (What::Delete { user: USER, item: Item::new(2, item) }, None)
}

fn dirty(scope: Scope, reason: &'static str) -> (What, Option<&'static str>) {
    (What::Dirty(scope), Some(reason))
}

#[test]
fn rows_come_and_go() {
    assert_eq!(told(RowKind::Insert, Before::Unknown, row(1)), [upsert(1)]);
    assert_eq!(told(RowKind::Delete, Before::Whole(row(1)), Image::default()), [delete(1)]);
    let lost = told(RowKind::Delete, Before::Unknown, row(1));
    assert_eq!(lost, [dirty(Scope::Partition, "before_missing")]);
}

#[test]
fn an_update_of_the_key_removes_the_old_row_first() {
    let update = |before| told(RowKind::Update, before, row(2));
    assert_eq!(update(Before::Whole(row(2))), [upsert(2)]);
    assert_eq!(update(Before::Whole(row(1))), [delete(1), upsert(2)]);
    assert_eq!(update(Before::SameKey), [upsert(2)]);
    let changed = |role, cell| update(Before::Changed(image(&[(role, cell)])));
    assert_eq!(changed(Role::Item, Cell::Number(1)), [delete(1), upsert(2)]);
    assert_eq!(changed(Role::Time, Cell::Number(1)), [upsert(2)]);
    assert_eq!(update(Before::Changed(Image::default())), [upsert(2)]);
    let of_other = What::Delete { user: UserId::new(8), item: Item::new(2, 2) };
    assert_eq!(changed(Role::User, Cell::Number(8)), [(of_other, None), upsert(2)]);
}

#[test]
fn an_update_of_an_unknown_row_puts_its_user_in_doubt() {
    let doubt = dirty(Scope::User(USER), "before_unknown");
    assert_eq!(told(RowKind::Update, Before::Unknown, row(2)), [upsert(2), doubt]);
    let unreadable = with(Role::Item, Cell::Null);
    let doubt = dirty(Scope::User(USER), "value_null");
    assert_eq!(told(RowKind::Update, Before::Unknown, unreadable), [doubt]);
    // What can be read of both rows is said.
    let update = told(RowKind::Update, Before::Whole(unreadable), row(2));
    assert_eq!(update, [doubt, upsert(2)]);
    assert_eq!(told(RowKind::Update, Before::Whole(row(1)), unreadable), [delete(1), doubt]);
    assert_eq!(told(RowKind::Update, Before::Whole(unreadable), unreadable), [doubt]);
}

#[test]
fn negative_numbers_are_unsigned_ones_with_the_same_bits() {
    assert_eq!(told(RowKind::Insert, Before::Unknown, row(-1)), [upsert(u64::MAX)]);
    assert_eq!(told(RowKind::Insert, Before::Unknown, row(i64::MIN.into())), [upsert(1 << 63)]);
    assert_eq!(told(RowKind::Insert, Before::Unknown, row(u64::MAX.into())), [upsert(u64::MAX)]);
    let low = i128::from(i64::MIN) - 1;
    let high = i128::from(u64::MAX) + 1;
    for number in [low, high] {
        let doubt = dirty(Scope::User(USER), "value_range");
        assert_eq!(told(RowKind::Insert, Before::Unknown, row(number)), [doubt]);
    }
}

#[test]
fn what_cannot_be_read_is_a_doubt_about_as_little_as_possible() {
    let user = Scope::User(USER);
    for (role, cell, scope, reason) in [
        (Role::User, Cell::Missing, Scope::Partition, "value_missing"),
        (Role::User, Cell::Null, Scope::Partition, "value_null"),
        (Role::User, Cell::Text, Scope::Partition, "value_type"),
        (Role::Item, Cell::Rounded, user, "value_rounded"),
        (Role::Item, Cell::Empty, user, "value_type"),
        (Role::Item, Cell::Millis(1), user, "value_type"),
        (Role::Kind, Cell::Other, user, "value_type"),
        (Role::Kind, Cell::Missing, user, "value_missing"),
        (Role::Kind, Cell::Number(256), user, "kind_range"),
        (Role::Kind, Cell::Number(-1), user, "kind_range"),
    ] {
        let insert = told(RowKind::Insert, Before::Unknown, with(role, cell));
        assert_eq!(insert, [dirty(scope, reason)], "{role:?} {cell:?}");
    }
}

#[test]
fn a_time_that_cannot_be_read_is_left_out() {
    let time = |table: &FollowedTable, cell| {
        let insert = told_of(table, RowKind::Insert, Before::Unknown, with(Role::Time, cell));
        let What::Upsert { marked_at_ms, .. } = insert[0].what else { panic!("{insert:?}") };
        marked_at_ms
    };
    let mut table = FollowedTable::own("db", "t");
    for (cell, expected) in [
        (Cell::Number(9), Some(9)),
        (Cell::Number(-1), Some(u64::MAX)),
        (Cell::Millis(9), Some(9)),
        (Cell::Millis(-9), None),
        (Cell::Missing, None),
        (Cell::Null, None),
        (Cell::Text, None),
    ] {
        assert_eq!(time(&table, cell), expected, "{cell:?}");
    }
    if let TableRole::History { time, .. } = &mut table.role {
        *time = Some(("t".to_owned(), TimeUnit::Seconds));
    }
    assert_eq!(time(&table, Cell::Number(9)), Some(9_000));
    assert_eq!(time(&table, Cell::Number(-1)), Some(u64::MAX));
    assert_eq!(time(&table, Cell::Millis(9)), Some(9));
    if let TableRole::History { time, .. } = &mut table.role {
        *time = None;
    }
    assert_eq!(time(&table, Cell::Number(9)), None);
}

#[test]
fn a_soft_delete_is_a_delete() {
    let mut table = FollowedTable::own("db", "t");
    if let TableRole::History { kind, deleted, .. } = &mut table.role {
        *kind = KindOf::Constant(Kind::new(2));
        *deleted = Some("gone".to_owned());
    }
    let update = |cell| {
        let mut after = with(Role::Kind, Cell::Missing);
        after.set(Role::Deleted, cell);
        let told = told_of(&table, RowKind::Update, Before::Whole(after), after);
        (told[0].what, told[0].reason)
    };
    for cell in [Cell::Null, Cell::Empty, Cell::Number(0)] {
        assert_eq!(update(cell), upsert(1), "{cell:?}");
    }
    for cell in [Cell::Number(-1), Cell::Millis(0), Cell::Text, Cell::Rounded] {
        assert_eq!(update(cell), delete(1), "{cell:?}");
    }
    let user = Scope::User(USER);
    assert_eq!(update(Cell::Missing), dirty(user, "value_missing"));
    assert_eq!(update(Cell::Other), dirty(user, "value_type"));
}

#[test]
fn control_rows_are_read_by_their_own_columns() {
    let row = |namespace| {
        image(&[
            (Role::User, Cell::Number(7)),
            (Role::Namespace, Cell::Number(namespace)),
            (Role::Writer, Cell::Number(-1)),
            (Role::Seq, Cell::Number(6)),
        ])
    };
    let table = FollowedTable::control("db");
    let told = |kind, after| told_of(&table, kind, Before::Whole(after), after)[0].clone();
    let read = ControlRow { user: USER, namespace: 3, writer: u64::MAX, seq: 6 };
    assert_eq!(told(RowKind::Insert, row(3)).what, What::Control(read));
    assert_eq!(told(RowKind::Update, row(3)).what, What::Control(read));
    let removed = told(RowKind::Delete, row(3));
    assert_eq!((removed.what, removed.reason), (What::Ignore, Some("control_removed")));
    let partition = What::Dirty(Scope::Partition);
    assert_eq!(told(RowKind::Insert, row(65_536)).what, partition);
    assert_eq!(told(RowKind::Insert, Image::default()).what, partition);
}
