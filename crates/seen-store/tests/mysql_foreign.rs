//! Tables that were there before: three shapes that applications have, on each kind of server, and
//! what is refused.

mod servers;

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, Write, WriteOp};
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, StoreErrorKind, UnixMillis, UserId,
};
use seen_store::mysql::TableMapping;
use seen_store::{MySqlOptions, MySqlStore};
use servers::OnServer;

const NS: NamespaceId = NamespaceId::new(0);

fn settings() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

fn mapped(server: OnServer, table: &str, columns: &str, read_only: bool) -> MySqlOptions {
    let mapping = TableMapping::parse(NS, table, columns, read_only).expect("a mapping");
    MySqlOptions { mappings: vec![mapping], write_timeout_ms: 500, ..server.options() }
}

fn write(user: u64, op: WriteOp, items: &[(Item, Option<u64>)]) -> Write {
    let items = items.iter().map(|(item, ms)| (*item, ms.map(UnixMillis::new))).collect();
    Write { namespace: NS, user: UserId::new(user), op, items }
}

async fn rows(store: &MySqlStore, user: u64) -> Vec<(Item, u64)> {
    let user = UserId::new(user);
    let request = PageRequest { namespace: NS, user, after: None, rows_max: PAGE_ROWS_MAX };
    let page = store.page(request).await.expect("a page");
    assert!(page.last);
    page.rows.iter().map(|row| (row.item, row.marked_at.get())).collect()
}

async fn found(store: &MySqlStore, user: u64, items: &[Item]) -> Vec<bool> {
    let question = Question { user: UserId::new(user), items: items.to_vec() };
    store.check(NS, vec![question]).await.expect("answers").found.remove(0)
}

/// Pages of one row hold every row once, too.
async fn paged(store: &MySqlStore, user: u64) -> Vec<Item> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let request = PageRequest { namespace: NS, user: UserId::new(user), after, rows_max: 1 };
        let page = store.page(request).await.expect("a page");
        items.extend(page.rows.iter().map(|row| row.item));
        after = items.last().copied();
        if page.last {
            return items;
        }
    }
}

/// A surrogate key, signed integers, no kind, a DATETIME: what an ORM makes.
async fn as_an_orm_makes_it(server: OnServer) {
    let options =
        mapped(server, "member_reads", "user=member_id,item=article_id,kind=3,time=read_at", false);
    let database = options.shards[0].database.as_str().to_owned();
    let made = server.sql(&format!(
        "USE {database}; CREATE TABLE member_reads (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
         member_id INT NOT NULL, article_id BIGINT NOT NULL, \
         read_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), note VARCHAR(20) NULL, \
         UNIQUE KEY u (member_id, article_id)); \
         INSERT INTO member_reads (member_id, article_id, read_at) VALUES \
         (7, 100, '2026-11-21 10:00:00.250'), (7, -1, '2026-11-21 10:00:01'), (8, 100, NOW())"
    ));
    made.expect("a table");
    let store = server.store(options, settings()).await;
    let at = 1_795_255_200_250;
    let (hundred, top) = (Item::new(3, 100), Item::new(3, u64::MAX));
    assert_eq!(rows(&store, 7).await, [(top, at + 750), (hundred, at)], "in the column's order");
    assert_eq!(paged(&store, 7).await, [top, hundred]);
    let asked = [hundred, top, Item::new(3, 101), Item::new(4, 100)];
    assert_eq!(found(&store, 7, &asked).await, [true, true, false, false]);

    let new = Item::new(3, 101);
    let marks = [(new, Some(at + 5)), (hundred, Some(at + 9))];
    store.write(vec![write(7, WriteOp::Append, &marks)]).await.expect("marks");
    store.write(vec![write(7, WriteOp::Remove, &[(top, None)])]).await.expect("an unmark");
    assert_eq!(rows(&store, 7).await, [(hundred, at), (new, at + 5)], "the first time stays");
    let many: Vec<_> = (0..2_000).map(|id| (Item::new(3, 1_000 + id), None)).collect();
    for some in many.chunks(1_000) {
        store.write(vec![write(9, WriteOp::Append, some)]).await.expect("many");
    }
    assert_eq!(rows(&store, 9).await.len(), 2_000);

    let refused = store.write(vec![write(7, WriteOp::Append, &[(Item::new(1, 1), None)])]).await;
    let refused = refused.expect_err("another kind");
    assert_eq!(refused.kind, StoreErrorKind::InvalidRequest);
    assert!(refused.message.contains("kind 3"), "{refused}");
    let refused = store.write(vec![write(1 << 40, WriteOp::Append, &[(new, None)])]).await;
    let refused = refused.expect_err("an INT holds no such user");
    assert_eq!(refused.kind, StoreErrorKind::InvalidRequest, "{refused}");
    assert!(rows(&store, 1 << 40).await.is_empty() && !found(&store, 1 << 40, &[new]).await[0]);
    store.forget(NS, UserId::new(7)).await.expect("forgotten");
    assert!(rows(&store, 7).await.is_empty());
    assert_eq!(rows(&store, 8).await.len(), 1);
    store.close().await;
}

/// The full key, unsigned, epoch seconds, more columns, and a flag in place of DELETE.
async fn with_a_removed_flag(server: OnServer) {
    let columns = "user=uid,kind=type,item=oid,time=ts:s,deleted=is_removed";
    let options = mapped(server, "log", columns, false);
    let database = options.shards[0].database.as_str().to_owned();
    let made = server.sql(&format!(
        "USE {database}; CREATE TABLE log (uid BIGINT UNSIGNED NOT NULL, type TINYINT NOT NULL, \
         oid BIGINT UNSIGNED NOT NULL, source VARCHAR(10) NOT NULL DEFAULT 'web', \
         ts INT UNSIGNED NOT NULL, is_removed TINYINT NOT NULL DEFAULT 0, \
         PRIMARY KEY (uid, type, oid)); \
         INSERT INTO log (uid, type, oid, ts, is_removed) VALUES \
         (18446744073709551615, 1, 18446744073709551615, 1000, 0), (7, 1, 1, 1000, 1), (7, 2, 1, 2000, 0)"
    ));
    made.expect("a table");
    let store = server.store(options, settings()).await;
    let top = Item::new(1, u64::MAX);
    assert_eq!(rows(&store, u64::MAX).await, [(top, 1_000_000)]);
    assert_eq!(found(&store, u64::MAX, &[top]).await, [true]);
    let (gone, here) = (Item::new(1, 1), Item::new(2, 1));
    assert_eq!(rows(&store, 7).await, [(here, 2_000_000)]);
    assert_eq!(found(&store, 7, &[gone, here]).await, [false, true]);
    store.write(vec![write(7, WriteOp::Append, &[(gone, Some(9_999_999))])]).await.expect("a mark");
    store.write(vec![write(7, WriteOp::Remove, &[(here, None)])]).await.expect("an unmark");
    assert_eq!(found(&store, 7, &[gone, here]).await, [true, false]);
    let left = server.sql(&format!("SELECT COUNT(*), SUM(is_removed) FROM {database}.log"));
    assert_eq!(left.expect("counts").trim(), "3\t1", "nothing is deleted");
    store.close().await;
}

/// Another schema, no unique key, a time of removal, a TIMESTAMP; only its owner writes to it.
async fn of_another_team(server: OnServer) {
    let theirs = server.database();
    let made = server.sql(&format!(
        "USE {theirs}; CREATE TABLE reads_of (who BIGINT NOT NULL, what INT UNSIGNED NOT NULL, \
         seen_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, removed_at DATETIME NULL, \
         KEY by_who (who, what)); SET time_zone = '+00:00'; \
         INSERT INTO reads_of VALUES (7, 1, '2026-11-21 10:00:00', NULL), \
         (7, 1, '2026-11-21 10:00:00', NULL), (7, 2, '2026-11-21 10:00:00', '2026-11-21 10:00:01')"
    ));
    made.expect("a table");
    let table = format!("{theirs}.reads_of");
    let columns = "user=who,item=what,time=seen_at,deleted=removed_at";
    let store = server.store(mapped(server, &table, columns, true), settings()).await;
    let (one, two) = (Item::new(0, 1), Item::new(0, 2));
    assert_eq!(rows(&store, 7).await, [(one, 1_795_255_200_000)], "one item, two rows");
    assert_eq!(found(&store, 7, &[one, two]).await, [true, false]);
    for op in [WriteOp::Append, WriteOp::Remove] {
        let refused = store.write(vec![write(7, op, &[(two, None)])]).await.expect_err("refused");
        assert_eq!(refused.kind, StoreErrorKind::ReadOnly);
        assert!(refused.message.contains("reads_of"), "{refused}");
    }
    let refused = store.forget(NS, UserId::new(7)).await.expect_err("refused");
    assert_eq!(refused.kind, StoreErrorKind::ReadOnly);
    server.sql(&format!("INSERT INTO {table} (who, what) VALUES (7, 2)")).expect("their insert");
    assert_eq!(found(&store, 7, &[one, two]).await, [true, true]);
    store.close().await;
}

/// What cannot be a history is refused when the store is opened, with the statement that helps.
async fn unfit_tables_are_refused(server: OnServer) {
    let columns = "user=u,item=i,kind=k,time=t";
    for (form, named) in [
        (
            "u INT NOT NULL, i INT NOT NULL, k INT NOT NULL, t BIGINT, KEY (u, k, i)",
            "ADD UNIQUE KEY",
        ),
        (
            "u INT NOT NULL, i INT NOT NULL, k INT NOT NULL, t BIGINT, UNIQUE KEY (i, k, u)",
            "CREATE INDEX",
        ),
        (
            "u INT NOT NULL, i VARCHAR(9) NOT NULL, k INT NOT NULL, t BIGINT, UNIQUE KEY (u, k, i)",
            "varchar",
        ),
        ("u INT NOT NULL, i INT NOT NULL, t BIGINT, UNIQUE KEY (u, i)", "no column `k`"),
        ("u INT NOT NULL, i INT NOT NULL, k INT NOT NULL, t FLOAT, UNIQUE KEY (u, k, i)", "float"),
        (
            "u INT NOT NULL, i INT NOT NULL, k INT NOT NULL, t BIGINT, x INT NOT NULL, UNIQUE KEY (u, k, i)",
            "`x`",
        ),
        (
            "u INT NOT NULL, i INT NOT NULL, k INT NOT NULL, t BIGINT, UNIQUE KEY (u, k, i), \
             UNIQUE KEY (u, t)",
            "another unique key (u, t)",
        ),
    ] {
        let options = mapped(server, "unfit", columns, false);
        let database = options.shards[0].database.as_str().to_owned();
        server.sql(&format!("CREATE TABLE {database}.unfit ({form})")).expect("a table");
        MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
        let refused = MySqlStore::open(options, settings()).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{form} was opened"));
        assert_eq!(refused.kind, StoreErrorKind::Schema);
        assert!(refused.message.contains(named), "{named}: {refused}");
    }
    let options = mapped(server, "nowhere", columns, false);
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    let refused = MySqlStore::open(options, settings()).await.err().expect("no table");
    assert!(refused.message.contains("is not there"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_transactions_is_refused() {
    let server = servers::mariadb().expect("always there");
    let options = mapped(server, "unfit", "user=u,item=i", false);
    let database = options.shards[0].database.as_str().to_owned();
    let form = "u INT NOT NULL, i INT NOT NULL, UNIQUE KEY (u, i)";
    server
        .sql(&format!("CREATE TABLE {database}.unfit ({form}) ENGINE = MyISAM"))
        .expect("a table");
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    let refused = MySqlStore::open(options, settings()).await.err().expect("refused");
    assert!(refused.message.contains("ENGINE = InnoDB"), "{refused}");
}

/// One test for each server and shape.
macro_rules! on_each {
    ($($name:ident),+) => {
        on_each!(@ mariadb, $($name),+);
        on_each!(@ mysql, $($name),+);
        on_each!(@ tidb, $($name),+);
    };
    (@ $kind:ident, $($name:ident),+) => {
        mod $kind {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = crate::servers::$kind() {
                    crate::$name(server).await;
                }
            })+
        }
    };
}

on_each!(as_an_orm_makes_it, with_a_removed_flag, of_another_team, unfit_tables_are_refused);
