//! Explain: it agrees with Filter, says why, and changes nothing.

use seen_proto::v1::{EntryState, LayerForm, Presence, QualityLevel};

use super::ask::{Caller, READ, explain, filter, forget, level, mark, patient, sound, unmark};
use super::stage::Stage;
use tonic::transport::Channel;

/// Explains every id and compares with what Filter answers right after.
async fn agrees(api: &mut Caller<Channel>, user: u64, ids: &[u64]) {
    for id in ids {
        let explained = api.explain(user, READ, *id).await;
        let answer = api.filter(filter(user, &[READ], [*id])).await;
        assert_eq!(explained.would_show, sound(&answer) == [0], "{explained:?}");
        assert_eq!(level(&explained.quality), level(&answer.quality), "{explained:?}");
    }
}

#[tokio::test]
async fn a_cold_user_is_explained_from_storage_and_stays_cold() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(1, READ, [5])).await;
    for (id, presence) in [(5, Presence::Present), (6, Presence::Absent)] {
        let explained = stage.api.explain(1, READ, id).await;
        let storage = explained.storage.expect("always present");
        let entry = explained.entry.expect("always present");
        let feed = explained.feed.expect("always present");
        assert_eq!(storage.presence(), presence);
        assert_eq!((storage.primary.len(), storage.message.as_str()), (16, ""));
        assert!(storage.snapshot.is_some(), "the embedded store numbers its commits");
        assert_eq!(entry.state(), EntryState::Absent, "it builds nothing");
        assert_eq!(entry.presence(), Presence::Unknown);
        assert_eq!((entry.items, entry.layers.len()), (0, 0));
        assert_eq!(explained.would_show, presence == Presence::Absent);
        assert_eq!(level(&explained.quality), QualityLevel::Exact);
        assert!(feed.cover.is_some() && feed.fresh_ms_ago.is_some() && feed.partition < 4);
        assert_eq!(explained.configured_false_positive_rate, 0.01);
    }
    assert_eq!(stage.status().await.memory.expect("present").builds, 0);
    stage.close().await;
}

#[tokio::test]
async fn exact_and_bloom_entries_are_shown_with_their_layers() {
    let mut stage = Stage::open().await;
    for (user, items, form) in [(1, 10, LayerForm::Exact), (2, 3_000, LayerForm::Bloom)] {
        for start in (0..items).step_by(1_000) {
            stage.api.mark(mark(user, READ, start..(start + 1_000).min(items))).await;
        }
        stage.rebuild(user, READ).await;
        let explained = stage.api.explain(user, READ, 3).await;
        let entry = explained.entry.expect("always present");
        assert_eq!((entry.state(), entry.presence()), (EntryState::Ready, Presence::Present));
        assert_eq!((entry.items, entry.dirty, entry.contested), (items, false, false));
        assert!(entry.generation > 0 && entry.bytes > 0 && entry.build.is_some());
        assert_eq!(entry.layers.len(), 1);
        let layer = &entry.layers[0];
        assert_eq!((layer.form(), layer.items), (form, items));
        let (exact, rate) = (form == LayerForm::Exact, entry.false_positive_rate);
        assert_eq!((layer.probes == 0, rate == 0.0), (exact, exact), "{layer:?}");
        assert!(rate <= 0.011 && layer.bits > 0);
        assert!(!explained.would_show);
        agrees(&mut stage.api, user, &[0, 3, items - 1, items, 1 << 40]).await;
    }
    stage.close().await;
}

#[tokio::test]
async fn tokens_unmarks_and_forgets_show() {
    let mut stage = Stage::open().await;
    let token = stage.api.mark(mark(1, READ, 0..100)).await;
    stage.rebuild(1, READ).await;
    let mut request = explain(1, READ, 3);
    request.token = token;
    let own = stage.api.0.explain(patient(request)).await.expect("explained").into_inner();
    assert_eq!(own.token_elements_uncovered, 0, "an own write needs no proof");
    stage.api.unmark(unmark(1, READ, [3])).await;
    // While the rebuild that this owes is under way, the next call may meet another entry.
    stage.rebuild(1, READ).await;
    agrees(&mut stage.api, 1, &[2, 3, 4]).await;
    stage.api.forget(forget(1, READ)).await;
    assert!(stage.api.explain(1, READ, 2).await.would_show);
    stage.rebuild(1, READ).await;
    let forgotten = stage.api.explain(1, READ, 2).await;
    assert!(forgotten.would_show);
    assert_eq!(forgotten.entry.expect("always present").user_epoch, 1);
    agrees(&mut stage.api, 1, &[2, 3, 4]).await;
    stage.close().await;
}
