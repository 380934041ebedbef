//! History: pages by key and newest first, their range, and what a namespace keeps.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use seen_proto::v1::{self, HistoryOrder, HistoryRow};
use seen_server::config::{NamespaceConfig, WhoseTime};
use std::time::Duration;
use tokio::time::interval;
use tonic::Code;

use super::ask::{Caller, filter, history, mark, patient, sound};
use super::refusal::failure;
use super::stage::{Stage, with_namespaces};
use tonic::transport::Channel;

fn namespaces() -> Vec<NamespaceConfig> {
    let second = Duration::from_secs(1);
    vec![
        NamespaceConfig::new("plain"),
        NamespaceConfig { time_index: true, ..NamespaceConfig::new("timed") },
        NamespaceConfig {
            time_index: true,
            time_rule: WhoseTime::Last,
            ..NamespaceConfig::new("latest")
        },
        NamespaceConfig {
            retention: Some(second),
            bucket: second,
            ..NamespaceConfig::new("brief")
        },
        NamespaceConfig { newest_max: Some(20), ..NamespaceConfig::new("newest") },
    ]
}

async fn open() -> Stage {
    Stage::with(with_namespaces(namespaces())).await
}

fn item(kind: u32, id: u64, at: u64) -> v1::MarkItem {
    v1::MarkItem { kind, id, marked_at_ms: Some(at) }
}

/// Items 0 to 24 of kinds 1 and 2 by turns, the first one the newest.
async fn fill(api: &mut Caller<Channel>, user: u64, namespace: &str) {
    let items = (0..25).map(|n| item(1 + n as u32 % 2, n, 10_000 - n * 10)).collect();
    api.mark(v1::MarkRequest { items, ..mark(user, namespace, []) }).await;
}

fn ids(rows: &[HistoryRow]) -> Vec<u64> {
    rows.iter().map(|row| row.id).collect()
}

fn recent(user: u64, namespace: &str) -> v1::HistoryRequest {
    v1::HistoryRequest { order: HistoryOrder::NewestFirst.into(), ..history(user, namespace) }
}

#[tokio::test]
async fn pages_by_key_hold_every_row_once_and_end() {
    let mut stage = open().await;
    fill(&mut stage.api, 1, "plain").await;
    fill(&mut stage.api, 2, "plain").await;
    for page_size in [1, 7, 25, 26, 1_000, 0] {
        let request = v1::HistoryRequest { page_size, ..history(1, "plain") };
        let pages = stage.api.pages(request).await;
        let full = if page_size == 0 { 100 } else { page_size as usize };
        assert!(pages.iter().all(|page| page.len() <= full));
        let rows = pages.concat();
        let mut all = ids(&rows);
        all.sort_unstable();
        assert_eq!(all, (0..25).collect::<Vec<_>>(), "page size {page_size}");
        assert!(rows.iter().all(|row| row.marked_at_ms == 10_000 - row.id * 10));
        assert!(rows.iter().all(|row| row.kind == 1 + row.id as u32 % 2));
    }
    let page = stage.api.history(v1::HistoryRequest { page_size: 25, ..history(1, "plain") }).await;
    assert_eq!(page.next_page_token, [0_u8; 0], "a full last page is the last page");
    assert!(page.rows_read >= 25);
    let nobody = stage.api.history(history(99, "plain")).await;
    assert_eq!((nobody.rows, nobody.next_page_token), (vec![], vec![]));
    stage.close().await;
}

#[tokio::test]
async fn newest_first_is_ordered_and_only_where_the_index_is_kept() {
    let mut stage = open().await;
    fill(&mut stage.api, 1, "timed").await;
    for page_size in [4, 25, 100] {
        let request = v1::HistoryRequest { page_size, ..recent(1, "timed") };
        let rows = stage.api.pages(request).await.concat();
        assert_eq!(ids(&rows), (0..25).collect::<Vec<_>>());
    }
    fill(&mut stage.api, 1, "plain").await;
    let refused = stage.api.0.history(patient(recent(1, "plain"))).await;
    failure(Code::FailedPrecondition, "NOT_KEPT", false).is(&refused.expect_err("not kept"));
    stage.close().await;
}

#[tokio::test]
async fn range_and_kind_sift_both_orders() {
    let mut stage = open().await;
    fill(&mut stage.api, 1, "timed").await;
    /// From, until, kind, and the ids to be listed.
    type Case = (u64, Option<u64>, Option<u32>, Vec<u64>);
    let cases: [Case; 6] = [
        (9_900, None, None, (0..11).collect()),
        (0, Some(9_900), None, (11..25).collect()),
        (9_800, Some(9_900), None, (11..21).collect()),
        (0, None, Some(2), (1..25).step_by(2).collect()),
        (9_800, Some(9_900), Some(1), (12..21).step_by(2).collect()),
        (9_900, Some(9_900), None, vec![]),
    ];
    for (from_ms, until_ms, kind, expected) in cases {
        for base in [history(1, "timed"), recent(1, "timed")] {
            for page_size in [3, 100] {
                let sifted =
                    v1::HistoryRequest { from_ms, until_ms, kind, page_size, ..base.clone() };
                let mut found = ids(&stage.api.pages(sifted.clone()).await.concat());
                if base.order() != HistoryOrder::NewestFirst {
                    found.sort_unstable();
                }
                assert_eq!(found, expected, "{sifted:?}");
            }
        }
    }
    stage.close().await;
}

#[tokio::test]
async fn extreme_ids_kinds_and_times_are_listed_as_they_were_marked() {
    let mut stage = open().await;
    let last_ms = seen_proto::limits::MARKED_AT_MS_MAX;
    let extremes =
        [(0, 0, 0), (0, u64::MAX, last_ms), (255, 0, 1), (255, u64::MAX, 2), (7, 1 << 63, 3)];
    let items = extremes.iter().map(|(kind, id, at)| item(*kind, *id, *at)).collect();
    for namespace in ["plain", "timed"] {
        for user in [0, u64::MAX] {
            let items = Vec::clone(&items);
            stage.api.mark(v1::MarkRequest { items, ..mark(user, namespace, []) }).await;
            let request = v1::HistoryRequest { page_size: 1, ..history(user, namespace) };
            let mut rows: Vec<_> = stage
                .api
                .pages(request)
                .await
                .concat()
                .iter()
                .map(|row| (row.kind, row.id, row.marked_at_ms))
                .collect();
            rows.sort_unstable();
            let mut expected = extremes.to_vec();
            expected.sort_unstable();
            assert_eq!(rows, expected);
        }
    }
    let rows = stage.api.pages(recent(0, "timed")).await.concat();
    assert_eq!(rows.iter().map(|row| row.marked_at_ms).collect::<Vec<_>>(), [last_ms, 3, 2, 1, 0]);
    stage.close().await;
}

#[tokio::test]
async fn the_first_time_is_kept_or_the_last_as_the_namespace_says() {
    let mut stage = open().await;
    for (namespace, kept) in [("timed", 500), ("latest", 300)] {
        for at in [500, 900, 300] {
            let items = vec![item(1, 1, at)];
            stage.api.mark(v1::MarkRequest { items, ..mark(1, namespace, []) }).await;
        }
        // The same within one call.
        let items = vec![item(1, 2, 500), item(1, 2, 900), item(1, 2, 300)];
        stage.api.mark(v1::MarkRequest { items, ..mark(1, namespace, []) }).await;
        let rows = stage.api.history(history(1, namespace)).await.rows;
        let times: Vec<_> = rows.iter().map(|row| row.marked_at_ms).collect();
        assert_eq!(times, [kept, kept], "{namespace}");
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let before = now();
    stage.api.mark(mark(2, "plain", [1])).await;
    let row = stage.api.history(history(2, "plain")).await.rows[0];
    assert!((before..=now()).contains(&u128::from(row.marked_at_ms)), "storage's own time");
    stage.close().await;
}

#[tokio::test]
async fn what_has_expired_is_unread_again_and_never_earlier_than_promised() {
    let mut stage = open().await;
    let began = Instant::now();
    // Old by the caller's own time: expiry goes by storage's clock all the same.
    let items = vec![item(1, 1, 5), item(1, 2, 5)];
    stage.api.mark(v1::MarkRequest { items, ..mark(1, "brief", []) }).await;
    stage.rebuild(1, "brief").await;
    let mut looks = interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        let unread = sound(&stage.api.filter(filter(1, &["brief"], [1, 2, 3])).await).to_vec();
        let kept_for = began.elapsed();
        if unread == [0, 1, 2] {
            assert!(kept_for >= Duration::from_secs(1), "gone after {kept_for:?}");
            break;
        }
        assert_eq!(unread, [2]);
        // Nothing else happens on this node: nobody's build brings the news of the time.
        assert!(kept_for < Duration::from_secs(60), "it does not expire");
    }
    assert_eq!(stage.api.history(history(1, "brief")).await.rows, []);
    let explained = stage.api.explain(1, "brief", 1).await;
    assert!(explained.would_show);
    stage.close().await;
}

#[tokio::test]
async fn the_newest_stay_and_memory_keeps_no_more_than_promised() {
    let mut stage = open().await;
    for chunk in 0..10 {
        let items = (0..20).map(|n| chunk * 20 + n).map(|id| item(1, id, 1_000 + id)).collect();
        stage.api.mark(v1::MarkRequest { items, ..mark(1, "newest", []) }).await;
        let newest: Vec<u64> = (chunk * 20..chunk * 20 + 20).collect();
        assert_eq!(stage.api.unread(1, "newest", &newest).await, [0_u64; 0]);
    }
    let built = stage.rebuild(1, "newest").await.entry.expect("present");
    assert_eq!(built.items, 20, "{built:?}");
    let newest: Vec<u64> = (180..200).collect();
    assert_eq!(stage.api.unread(1, "newest", &newest).await, [0_u64; 0]);
    let rows = stage.api.pages(history(1, "newest")).await.concat();
    assert!(newest.iter().all(|id| ids(&rows).contains(id)), "storage keeps at least those");
    stage.close().await;
}
