//! The two live figures: what is sampled behind the callers' back, what it comes to, and what a false
//! negative that is found does.

use seen_filter::history::{Write, WriteOp};
use seen_filter::{History, Item, NamespaceId, UnixMillis, UserId};
use seen_proto::v1::{NamespaceStatus, StatusRequest};
use seen_replica::SampleLimits;

use super::ask::{READ, filter, patient, sound};
use super::blocked::{Blocked, quiet, store, until};

const USER: u64 = 5;

/// Puts a user into memory who has read these, whatever storage says.
fn preload(stage: &Blocked, ids: std::ops::Range<u64>) {
    let mut builder = stage.replica.builder(READ).expect("it is served");
    ids.for_each(|id| builder.push(Item::new(1, id), UnixMillis::new(0), 0));
    stage.replica.preload(READ, UserId::new(USER), builder.finish()).expect("installed");
}

async fn figures(stage: &mut Blocked) -> NamespaceStatus {
    let status = stage.admin.status(patient(StatusRequest {})).await.expect("answered");
    let mut namespaces = status.into_inner().namespaces.into_iter();
    namespaces.find(|namespace| namespace.name == READ).expect("it is served")
}

#[tokio::test(start_paused = true)]
async fn a_row_that_bypassed_the_feed_is_counted_and_its_user_healed() {
    let store = store();
    // Committed before the replica follows: no event of it ever comes there.
    let items = (0..5).map(|id| (Item::new(1, id), None)).collect();
    let write = Write {
        namespace: NamespaceId::new(0),
        user: UserId::new(USER),
        op: WriteOp::Append,
        items,
    };
    store.write(vec![write]).await.expect("committed");
    let samples = SampleLimits { seen_share: 0.0, unread_share: 1.0, checks_per_s_max: 50 };
    let mut stage = Blocked::sampling(store, samples).await;
    preload(&stage, 100..110);
    let wrong = stage.api.filter(filter(USER, &[READ], 0..6)).await;
    assert_eq!(sound(&wrong), (0..6).collect::<Vec<_>>(), "nobody can know better yet");
    until(|| stage.replica.false_negatives() == 1).await;
    let asked = stage.api.filter(filter(USER, &[READ], 0..6)).await;
    assert_eq!(sound(&asked), [5], "the user is asked in storage, or built anew");
    quiet().await;
    assert_eq!(sound(&stage.api.filter(filter(USER, &[READ], 0..6)).await), [5]);
    let figures = figures(&mut stage).await;
    assert_eq!(figures.false_negatives, 1, "counted once");
    assert!(figures.unseen_samples >= 2, "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn verified_seen_answers_give_the_real_false_positive_rate() {
    let samples = SampleLimits { seen_share: 1.0, unread_share: 0.0, checks_per_s_max: 50 };
    let mut stage = Blocked::sampling(store(), samples).await;
    assert_eq!(figures(&mut stage).await.measured_false_positive_rate, None, "no sample yet");
    // Storage knows of none of them: each is a false positive.
    preload(&stage, 0..10);
    let answer = stage.api.filter(filter(USER, &[READ], 0..40)).await;
    assert_eq!(sound(&answer), (10..40).collect::<Vec<_>>());
    quiet().await;
    let figures = figures(&mut stage).await;
    assert_eq!((figures.seen_samples, figures.false_negatives), (1, 0));
    assert_eq!(figures.measured_false_positive_rate, Some(0.25), "10 of 40 unread ones");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_are_verified_in_a_second() {
    let samples = SampleLimits { seen_share: 1.0, unread_share: 1.0, checks_per_s_max: 7 };
    let mut stage = Blocked::sampling(store(), samples).await;
    preload(&stage, 0..10);
    for _ in 0..100 {
        stage.api.filter(filter(USER, &[READ], 0..20)).await;
    }
    quiet().await;
    let figures = figures(&mut stage).await;
    // The hundred calls take no time on a clock that stands, so that at most two seconds saw them.
    assert!((7..=14).contains(&figures.seen_samples), "{figures:?}");
    assert_eq!(figures.seen_samples, figures.unseen_samples);
}
