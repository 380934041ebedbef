//! Whatever the target ends with, a relay that begins goes on so that nothing is missing.

use seen_filter::{FeedEvent, UserId};
use seen_kafka::Partitioner;

use super::stage::{NS, Stage, Value, drain, gaps, user_of};

const LANES: u16 = 3;

/// Events in the order in which they come for the first time.
fn first_times(lane: &[Value], source_partition: u16) -> Vec<FeedEvent> {
    let mut events: Vec<FeedEvent> = Vec::new();
    for value in lane.iter().filter(|v| v.source.partition.get() == source_partition) {
        for event in value.events.iter().filter(|event| user_of(event).is_some()) {
            if !events.contains(event) {
                events.push(*event);
            }
        }
    }
    events
}

/// Holds that each lane tells its users' events of each of the source's partitions, in their order.
fn check(stage: &Stage, source: &[Vec<FeedEvent>], values: &[Vec<Value>], what: &str) {
    let partitioner = Partitioner::Slots(stage.store.hash_key());
    let lane_of = |user: UserId| partitioner.partition(user, LANES).expect("a partition");
    // Through one of several partitions a fence proves nothing, and is not told on.
    let is_told =
        |event: &FeedEvent| source.len() == 1 || !matches!(event, FeedEvent::Fence { .. });
    for (lane, values) in (0..LANES).zip(values) {
        for (partition, events) in (0..).zip(source) {
            let is_here = |event: &&FeedEvent| {
                user_of(event).is_some_and(|user| lane_of(user) == lane) && is_told(event)
            };
            let expected: Vec<_> = events.iter().filter(is_here).copied().collect();
            assert_eq!(first_times(values, partition), expected, "{what}: lane {lane}");
        }
    }
}

/// Holds that, taken in their order, the events amount to what the store holds.
async fn check_rows(stage: &Stage, values: &[Vec<Value>], what: &str) {
    use seen_filter::History;
    use seen_filter::history::PageRequest;
    let mut rows = std::collections::BTreeSet::new();
    for event in values.iter().flatten().flat_map(|value| &value.events) {
        match *event {
            FeedEvent::Add { user, item, .. } => drop(rows.insert((user, item))),
            FeedEvent::Remove { user, item, .. } => drop(rows.remove(&(user, item))),
            FeedEvent::RemoveAll { user, .. } => rows.retain(|(other, _)| *other != user),
            _ => {}
        }
    }
    for user in (0..11).map(UserId::new) {
        let request = PageRequest { namespace: NS, user, after: None, rows_max: 1_000 };
        let page = stage.store.page(request).await.expect("a page");
        let stored: Vec<_> = page.rows.iter().map(|row| (user, row.item)).collect();
        let told: Vec<_> = rows.iter().filter(|(other, _)| *other == user).copied().collect();
        assert_eq!(told, stored, "{what}: user {user}");
    }
}

/// A prefix of each lane, of lengths drawn from a seed; never without its first record.
fn cut(values: &[Vec<Value>], seed: u64) -> Vec<Vec<Value>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    };
    values.iter().map(|lane| lane[..1 + draw(lane.len())].to_vec()).collect()
}

async fn resumes_at_every_cut(source_partitions: u16) {
    let stage = Stage::new(source_partitions);
    stage.topic("whole", LANES.into());
    stage.relay_once("whole").await.expect("a beginning");
    assert_eq!(
        gaps(&stage.read("whole")),
        usize::from(source_partitions),
        "each lane begins in doubt"
    );
    let mut readers = stage.readers().await;
    stage.work(0, 40).await;
    let mut source = Vec::new();
    for reader in &mut readers {
        source.push(drain(reader).await);
    }
    stage.relay_once("whole").await.expect("relayed");
    let whole = stage.read("whole");
    check(&stage, &source, &whole, "without a cut");
    check_rows(&stage, &whole, "without a cut").await;
    let beginnings: Vec<usize> = whole.iter().map(|_| usize::from(source_partitions)).collect();
    for seed in 1..=24 {
        let mut kept = cut(&whole, seed);
        for ((kept, whole), least) in kept.iter_mut().zip(&whole).zip(&beginnings) {
            // What each lane was told of every partition of the source at the beginning stays.
            kept.truncate(kept.len().max(*least));
            kept.extend_from_slice(&whole[kept.len()..whole.len().min(*least).max(kept.len())]);
        }
        let topic = format!("cut-{seed}");
        stage.topic(&topic, LANES.into());
        stage.copy(&topic, &kept);
        stage.relay_once(&topic).await.expect("relayed");
        let values = stage.read(&topic);
        assert_eq!(
            gaps(&values),
            usize::from(source_partitions),
            "{topic}: nothing new is in doubt"
        );
        check(&stage, &source, &values, &topic);
        check_rows(&stage, &values, &topic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_one_partition_is_gone_on_with_at_every_cut() {
    resumes_at_every_cut(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_several_partitions_is_gone_on_with_at_every_cut() {
    resumes_at_every_cut(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_has_lost_its_place_puts_all_in_doubt() {
    let stage = Stage::new(1);
    stage.topic("whole", LANES.into());
    stage.relay_once("whole").await.expect("a beginning");
    stage.work(0, 10).await;
    stage.relay_once("whole").await.expect("relayed");
    let mut kept = stage.read("whole");
    kept[1].clear();
    stage.topic("lost", LANES.into());
    stage.copy("lost", &kept);
    stage.work(10, 5).await;
    stage.relay_once("lost").await.expect("relayed");
    let values = stage.read("lost");
    let ends_in_doubt =
        |(lane, kept): (&Vec<Value>, &Vec<Value>)| gaps(&[lane[kept.len()..].to_vec()]) == 1;
    assert!(values.iter().zip(&kept).all(ends_in_doubt), "{values:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_of_several_partitions_is_told_once_it_came_through_all() {
    use seen_filter::{ChangeFeed, FenceSeq, History, Incarnation};
    let stage = Stage::new(4);
    stage.topic("t", LANES.into());
    stage.relay_once("t").await.expect("a beginning");
    let partitioner = Partitioner::Slots(stage.store.hash_key());
    let user = UserId::new(5);
    let lane = usize::from(partitioner.partition(user, LANES).expect("a partition"));
    let fences = |stage: &Stage| {
        let is_fence = |event: &&FeedEvent| matches!(event, FeedEvent::Fence { .. });
        let values = stage.read("t");
        let of = |lane: &Vec<Value>| lane.iter().flat_map(|v| &v.events).filter(is_fence).count();
        values.iter().map(of).collect::<Vec<_>>()
    };
    let feeds = stage.store.feeds();
    for feed in &feeds[..3] {
        let (writer, seq) = (Incarnation::new(1), FenceSeq::new(1));
        stage.store.fence(*feed, vec![user], writer, seq).await.expect("a fence");
    }
    stage.relay_once("t").await.expect("relayed");
    assert_eq!(fences(&stage), [0; 3], "it came through three of four");
    for feed in &feeds {
        let (writer, seq) = (Incarnation::new(1), FenceSeq::new(2));
        stage.store.fence(*feed, vec![user], writer, seq).await.expect("a fence");
    }
    stage.relay_once("t").await.expect("relayed");
    let mut expected = [0; 3];
    expected[lane] = 1;
    assert_eq!(fences(&stage), expected);
}
