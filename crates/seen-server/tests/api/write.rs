//! Mark, Unmark and Forget, and the tokens that they give.

use seen_proto::limits::TOKEN_FRAME_BYTES_MAX;
use seen_proto::v1;
use seen_proto::v1::forget_request::Scope;
use seen_server::config::NamespaceConfig;

use super::ask::{READ, SENT, filter, forget, history, mark, sound, unmark};
use super::stage::{Stage, on_folder, with_namespaces};

/// Enough namespaces for a token to overflow: each has four partitions.
fn many() -> Vec<NamespaceConfig> {
    (0..4).map(|n| NamespaceConfig::new(format!("many_{n}"))).collect()
}

#[tokio::test]
async fn marking_again_changes_nothing_and_marking_nothing_gives_no_token() {
    let mut stage = Stage::open().await;
    let first = stage.api.mark(mark(1, READ, [1, 2, 2, 1])).await;
    let again = stage.api.mark(mark(1, READ, [2, 1])).await;
    assert!(!first.is_empty() && !again.is_empty());
    assert_eq!(stage.api.history(history(1, READ)).await.rows.len(), 2);
    assert_eq!(stage.api.unread(1, READ, &[1, 2, 3]).await, [3]);
    assert_eq!(stage.api.mark(mark(1, READ, [])).await, [0_u8; 0]);
    let thousand = stage.api.mark(mark(1, READ, 0..1_000)).await;
    assert!(!thousand.is_empty());
    assert_eq!(stage.status().await.traffic.expect("present").marks, 1_004 + 2 - 2);
    stage.close().await;
}

#[tokio::test]
async fn a_token_stands_for_all_that_its_session_wrote() {
    let mut stage = Stage::with(with_namespaces(many())).await;
    let names: Vec<String> = (0..4).map(|n| format!("many_{n}")).collect();
    let mut token = Vec::new();
    let mut joined = Vec::new();
    for user in 0..32_u64 {
        let name = &names[user as usize % 4];
        let alone = stage.api.mark(mark(user, name, [user])).await;
        if joined.len() + alone.len() < 1_024 {
            joined.extend(alone);
        }
        let request = v1::MarkRequest { token: token.clone(), ..mark(user, name, [user + 100]) };
        token = stage.api.mark(request).await;
        assert!(token.len() <= TOKEN_FRAME_BYTES_MAX, "{} bytes", token.len());
    }
    for user in 0..32_u64 {
        let name = names[user as usize % 4].as_str();
        for token in [&token, &joined] {
            let ask = v1::FilterRequest {
                token: token.clone(),
                ..filter(user, &[name], [user, user + 100, 7_777])
            };
            let answer = stage.api.filter(ask).await;
            assert_eq!(sound(&answer), [2], "user {user}");
            assert_eq!(answer.token, [0_u8; 0], "a read makes no token");
        }
    }
    // Joined tokens are shortened by the next write.
    let request = v1::MarkRequest { token: joined.clone(), ..mark(1, "many_1", [5]) };
    let shortened = stage.api.mark(request).await;
    assert!(shortened.len() < joined.len(), "{} of {} bytes", shortened.len(), joined.len());
    stage.close().await;
}

#[tokio::test]
async fn unmarked_items_are_unread_with_and_without_the_token() {
    let mut stage = Stage::open().await;
    for (user, items) in [(1_u64, 10_u64), (2, 500)] {
        let written = stage.api.mark(mark(user, READ, 0..items)).await;
        stage.rebuild(user, READ).await;
        let request =
            v1::UnmarkRequest { token: written, ..unmark(user, READ, [3, 4, 3, 999_999]) };
        let token = stage.api.unmark(request).await;
        assert!(!token.is_empty());
        for token in [token, Vec::new()] {
            // A filter that was built anew meanwhile may call one of the two seen; so few items are held exactly.
            let confirm = items > 16;
            let ask = v1::FilterRequest { token, confirm, ..filter(user, &[READ], 0..items) };
            assert_eq!(sound(&stage.api.filter(ask).await), [3, 4]);
        }
        stage.rebuild(user, READ).await;
        let unread = stage.api.unread(user, READ, &[3, 4, 5]).await;
        // After the rebuild one of the two may be a false positive, but nothing else may be unread.
        assert!(unread.iter().all(|id| [3, 4].contains(id)), "{unread:?}");
        stage.api.mark(mark(user, READ, [4])).await;
        let ask = v1::FilterRequest { confirm: true, ..filter(user, &[READ], [3, 4, 5]) };
        assert_eq!(sound(&stage.api.filter(ask).await), [0]);
    }
    assert_eq!(stage.api.unmark(unmark(1, READ, [])).await, [0_u8; 0]);
    assert!(!stage.api.unmark(unmark(77, READ, [1])).await.is_empty(), "nobody's item");
    stage.close().await;
}

#[tokio::test]
async fn what_is_forgotten_stays_forgotten_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stage = Stage::lasting(on_folder(folder.path())).await;
    for user in [1_u64, 2] {
        stage.api.mark(mark(user, READ, 0..300)).await;
        stage.api.mark(mark(user, SENT, [1, 2])).await;
        stage.rebuild(user, READ).await;
    }
    let done = stage.api.forget(forget(1, READ)).await;
    let row = &done.namespaces[0];
    assert_eq!((row.namespace.as_str(), row.rows, row.epoch), (READ, 300, 1));
    assert!(row.error.is_none() && done.namespaces.len() == 1);
    let ids: Vec<u64> = (0..300).collect();
    for token in [done.token, Vec::new()] {
        let ask = v1::FilterRequest { token, ..filter(1, &[READ], 0..300) };
        assert_eq!(sound(&stage.api.filter(ask).await).len(), 300);
    }
    assert_eq!(stage.api.history(history(1, READ)).await.rows, []);
    assert_eq!(stage.api.unread(1, SENT, &[1, 2, 3]).await, [3], "the other history stays");
    assert_eq!(stage.api.unread(2, READ, &ids).await, [0_u64; 0], "and so do other users");
    stage.api.mark(mark(1, READ, [5])).await;
    assert_eq!(stage.api.unread(1, READ, &[4, 5]).await, [4], "a later mark stands");
    stage.close().await;

    let mut stage = Stage::lasting(on_folder(folder.path())).await;
    assert_eq!(stage.api.unread(1, READ, &ids).await.len(), 299);
    stage.rebuild(1, READ).await;
    assert_eq!(stage.api.unread(1, READ, &ids).await.len(), 299);
    let again = stage.api.forget(forget(1, READ)).await;
    assert_eq!((again.namespaces[0].rows, again.namespaces[0].epoch), (1, 2));
    stage.close().await;
}

#[tokio::test]
async fn forgetting_everywhere_names_every_namespace_in_order() {
    let mut stage = Stage::with(with_namespaces(many())).await;
    stage.api.mark(mark(1, "many_2", 0..3)).await;
    let everywhere =
        v1::ForgetRequest { scope: Some(Scope::AllNamespaces(true)), ..forget(1, READ) };
    for round in 1..=2 {
        let done = stage.api.forget(everywhere.clone()).await;
        let named: Vec<_> =
            done.namespaces.iter().map(|n| (n.namespace.as_str(), n.rows, n.epoch)).collect();
        let rows = if round == 1 { 3 } else { 0 };
        let expected = [
            ("many_0", 0, round),
            ("many_1", 0, round),
            ("many_2", rows, round),
            ("many_3", 0, round),
        ];
        assert_eq!(named, expected);
        assert!(!done.token.is_empty());
        let ask = v1::FilterRequest {
            token: done.token,
            ..filter(1, &["many_0", "many_1", "many_2", "many_3"], 0..4)
        };
        assert_eq!(sound(&stage.api.filter(ask).await), [0, 1, 2, 3]);
    }
    stage.close().await;
}

#[tokio::test]
async fn a_token_of_an_earlier_life_is_honoured() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stage = Stage::lasting(on_folder(folder.path())).await;
    let token = stage.api.mark(mark(4, READ, 0..100)).await;
    let unmarked = v1::UnmarkRequest { token, ..unmark(4, READ, [7]) };
    let token = stage.api.unmark(unmarked).await;
    stage.close().await;
    let mut stage = Stage::lasting(on_folder(folder.path())).await;
    for _ in 0..2 {
        let ask = v1::FilterRequest { token: token.clone(), ..filter(4, &[READ], 0..100) };
        let unread = sound(&stage.api.filter(ask).await).to_vec();
        assert!(unread.iter().all(|at| *at == 7), "{unread:?}");
        stage.rebuild(4, READ).await;
    }
    let merged = v1::MarkRequest { token, ..mark(4, READ, [7]) };
    let token = stage.api.mark(merged).await;
    let ask = v1::FilterRequest { token, ..filter(4, &[READ], 0..100) };
    assert_eq!(sound(&stage.api.filter(ask).await), [0_u32; 0]);
    stage.close().await;
}
