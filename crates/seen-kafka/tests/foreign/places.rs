//! Places in a topic: resuming, and what is not there any more.

use seen_filter::{ChangeFeed, FeedCursor, FeedEvent, FeedReader, FeedStart, GapScope};
use seen_testbed::Record;

use super::world::{
    PARTITIONS, World, at_head, events_until, feed_id, fence, next, row, told_until, user_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_resumes_where_one_stopped() {
    let Some(world) = World::new("resumed") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    (1..=20).for_each(|item| world.send(1, user, &row("c", item, user, item)));
    let mut read = Vec::new();
    let mut at = None;
    while read.len() < 7 {
        let batch = reader.next(1).await.expect("a batch");
        read.extend(batch.events);
        at = Some(batch.resume);
    }
    drop((reader, feed));
    let feed = world.feed().await;
    let mut reader =
        feed.open(feed_id(1), FeedStart::At(at.expect("read"))).await.expect("a reader");
    let is_last =
        |event: &FeedEvent| matches!(event, FeedEvent::Add { item, .. } if item.id.get() == 20);
    read.extend(events_until(&mut reader, is_last).await);
    read.retain(|event| !matches!(event, FeedEvent::Complete { .. }));
    let items: Vec<_> = read
        .iter()
        .map(|event| match event {
            FeedEvent::Add { item, .. } => item.id.get(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(items, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_a_gap() {
    let Some(world) = World::new("made_anew") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    (1..=5).for_each(|item| world.send(1, user, &row("c", item, user, item)));
    told_until(&mut reader, &format!("+{user}:5")).await;
    world.make_anew();
    world.send(1, user, &row("c", 6, user, 6));
    // What is there by then is in doubt like everything else; what comes is told.
    let told = told_until(&mut reader, "gap topic_recreated").await;
    assert_eq!(told, ["gap topic_recreated"]);
    world.send(1, user, &row("c", 7, user, 7));
    told_until(&mut reader, &format!("+{user}:7")).await;
}

/// Records of another topic are at the old places: what lies before them would be missing without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_topic_that_has_passed_the_old_place_is_a_gap() {
    let Some(world) = World::new("passed_while_read") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    (1..=5).for_each(|item| world.send(1, user, &row("c", item, user, item)));
    told_until(&mut reader, &format!("+{user}:5")).await;
    let key = format!("{{\"user_id\":{user}}}");
    let records: Vec<_> =
        (6..=15).map(|item| Record::new(&key, &row("c", item, user, item))).collect();
    world.make_anew();
    world.kafka.send(&world.topic, 1, &records).expect("sent");
    told_until(&mut reader, "gap topic_recreated").await;
    world.send(1, user, &row("c", 16, user, 16));
    let told = told_until(&mut reader, &format!("+{user}:16")).await;
    assert!(!told.contains(&"gap topic_recreated".to_owned()), "{told:?}");
}

/// The same for a process that was away meanwhile; whoever has been there all the time names places of
/// the new topic as that one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_in_a_topic_of_the_same_name_is_none_in_this() {
    let Some(world) = World::new("passed_while_away") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    (1..=5).for_each(|item| world.send(1, user, &row("c", item, user, item)));
    let mut old = None;
    for item in 1..=5 {
        let batch = reader.next(1).await.expect("a batch");
        assert!(matches!(batch.events[..], [FeedEvent::Add { .. }]), "{item}: {batch:?}");
        old = Some(batch.resume);
    }
    let start = FeedStart::At(old.expect("read"));
    world.make_anew();
    (6..=15).for_each(|item| world.send(1, user, &row("c", item, user, item)));
    told_until(&mut reader, "gap topic_recreated").await;

    let other = world.feed().await;
    let mut later = other.open(feed_id(1), start).await.expect("a reader");
    let first = next(&mut later).await;
    let gap = FeedEvent::Gap { scope: GapScope::Partition, reason: "timeline_changed" };
    assert_eq!(first.events.first(), Some(&gap), "{first:?}");
    world.send(1, user, &row("c", 16, user, 16));
    let place = async |reader: &mut Box<dyn FeedReader>| loop {
        let batch = next(reader).await;
        if batch
            .events
            .iter()
            .any(|event| matches!(event, FeedEvent::Add { item, .. } if item.id.get() == 16))
        {
            return batch.resume;
        }
    };
    assert_eq!(place(&mut later).await, place(&mut reader).await);
}

/// Until it has come through all partitions a fence proves nothing, once partitions were added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_goes_through_added_partitions_too() {
    let Some(world) = World::new("added") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    world.kafka.add_partitions(&world.topic, PARTITIONS + 1).expect("added");
    world.send(3, user, &row("c", 1, user, 5));
    world.send(1, user, &fence(2, user, 1));
    told_until(&mut reader, "gap partitions_added").await;
    let users = feed.fence_users(feed_id(1));
    assert_eq!(users.len(), PARTITIONS + 1);
    for (partition, user) in (0..).zip(&users) {
        world.send(partition, user.get(), &fence(3, user.get(), 2));
    }
    let told = told_until(&mut reader, "fence 2").await;
    assert!(told.contains(&format!("+{user}:5")), "{told:?}");
    assert!(!told.contains(&"fence 1".to_owned()), "{told:?}");
}

/// As places are made, the last record that was read says by the epoch of its leader which log it is of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_in_a_log_that_was_cut_off_and_written_anew_is_a_gap() {
    let Some(world) = World::new("written_anew") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    (1..=3).for_each(|item| world.send(1, user, &row("c", item, user, item)));
    let mut place = None;
    for _ in 1..=3 {
        place = Some(reader.next(1).await.expect("a batch").resume);
    }
    let place = place.expect("read");
    drop((reader, feed));
    world.send(1, user, &row("c", 4, user, 4));
    let feed = world.feed().await;
    let mut reader = feed.open(feed_id(1), FeedStart::At(place)).await.expect("a reader");
    assert_eq!(told_until(&mut reader, &format!("+{user}:4")).await, [format!("+{user}:4")]);
    // As if another leader had written that record.
    let another = FeedCursor { offset: place.offset + 1, ..place };
    let mut reader = feed.open(feed_id(1), FeedStart::At(another)).await.expect("a reader");
    let is_add = |event: &FeedEvent| matches!(event, FeedEvent::Add { .. });
    let told = events_until(&mut reader, is_add).await;
    let [FeedEvent::Gap { reason: "log_truncated", .. }, FeedEvent::Complete { .. }, _] = told[..]
    else {
        panic!("{told:?}");
    };
}

/// A replica that has read everything says so: else another one that begins behind it takes nothing from it (rule R3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_it_was_read_is_told() {
    let Some(world) = World::new("told") else { return };
    let feed = world.feed().await;
    // In one partition rows come, and in the other one only fences.
    let (rows, fences) = (user_of(&feed, 1), user_of(&feed, 2));
    let mut readers = [at_head(&feed, 1).await, at_head(&feed, 2).await];
    (1..=5).for_each(|item| world.send(1, rows, &row("c", item, rows, item)));
    world.send(2, fences, &fence(6, fences, 1));
    for round in 0..2 {
        if round == 1 {
            // One that says nothing to these feeds is read as well.
            let others = |user| fence(7, user, 2).replace("\"namespace\":4", "\"namespace\":5");
            world.send(1, rows, &others(rows));
            world.send(2, fences, &others(fences));
        }
        let another = world.feed().await;
        for (partition, reader) in (1..).zip(&mut readers) {
            let later = another.open(feed_id(partition), FeedStart::Head).await;
            let first = next(&mut later.expect("a reader")).await.events;
            let [FeedEvent::Complete { stamp: head }] = first[..] else { panic!("{first:?}") };
            let is_there = |event: &FeedEvent| match event {
                FeedEvent::Complete { stamp } => stamp.covers(head),
                _ => false,
            };
            let told = events_until(reader, is_there).await;
            let is_place = |event: &FeedEvent| matches!(event, FeedEvent::Complete { .. });
            assert!(round == 0 || told.iter().all(is_place), "{told:?}");
        }
    }
}
