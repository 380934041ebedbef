//! What keeps `seen serve` from starting is said in one line, whatever was begun before it.

use super::servers::{mariadb, said, seen};

fn ports() -> Vec<String> {
    ["listen", "admin_listen", "http_listen"]
        .iter()
        .flat_map(|key| ["--set".to_owned(), format!("server.{key}=127.0.0.1:0")])
        .collect()
}

fn refusal(flags: &[String]) -> String {
    let ended = seen(&["serve"], &[flags, &ports()].concat());
    let said = said(&ended);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("seen.db"), "no database at all, but long enough")
        .expect("a file");
    let set = format!("storage.data_dir={}", folder.path().display());
    let said = refusal(&["--set".to_owned(), set]);
    assert!(said.contains("seen: storage: "), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut flags = mariadb().expect("always there").flags();
    flags.extend(
        ["--set", "mysql.servers=127.0.0.1:1", "--set", "mysql.connect_timeout=200ms"]
            .map(str::to_owned),
    );
    let said = refusal(&flags);
    assert!(said.contains("127.0.0.1:1") && said.contains("shard 0"), "{said}");
}

#[test]
fn a_missing_schema_says_how_to_make_it() {
    let place = mariadb().expect("always there");
    let said = refusal(&place.flags());
    assert!(said.contains("seen migrate --apply") && said.contains(&place.database), "{said}");
}

#[test]
fn a_password_is_not_shown_where_it_is_refused() {
    let place = mariadb().expect("always there");
    place.server.sql("CREATE USER turned_away@'127.0.0.1' IDENTIFIED BY 'right'").expect("a user");
    let mut flags = place.flags();
    flags.extend(
        ["--set", "mysql.user=turned_away", "--set", "mysql.password=hunter2"].map(str::to_owned),
    );
    flags.extend(["--set", "mysql.connect_timeout=500ms"].map(str::to_owned));
    let said = refusal(&flags);
    assert!(said.contains("Access denied") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_binary_log_is_not_followed_where_there_is_none() {
    let Some(place) = super::servers::tidb() else { return };
    let place = place.migrated();
    let mut flags = place.flags();
    flags.extend(["--set", "mysql.feed=binlog"].map(str::to_owned));
    let said = refusal(&flags);
    assert!(said.contains("TiDB keeps no binary log"), "{said}");
}
