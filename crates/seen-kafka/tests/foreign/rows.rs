//! Rows and fences.

use super::world::{World, at_head, fence, row, told_until, user_of};

/// A remove that may have been told before must not cancel what came after it at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_again_puts_its_user_in_doubt() {
    let Some(world) = World::new("told_again") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    for (op, seq, item) in
        [("c", 1, 5), ("d", 2, 5), ("c", 3, 5), ("d", 2, 5), ("c", 3, 5), ("d", 4, 6)]
    {
        world.send(1, user, &row(op, seq, user, item));
    }
    let last = format!("-{user}:6");
    let (add, remove) = (format!("+{user}:5"), format!("-{user}:5"));
    let told = told_until(&mut reader, &last).await;
    let expected = [&add, &remove, &add, &remove, "gap remove_unordered", &add, &last];
    assert_eq!(told, expected);
}

/// A row in another partition than its user's: its order among the user's rows is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_in_another_partition_puts_its_user_in_doubt() {
    let Some(world) = World::new("elsewhere") else { return };
    let feed = world.feed().await;
    let (user, other) = (user_of(&feed, 0), user_of(&feed, 2));
    let mut reader = at_head(&feed, 0).await;
    let _elsewhere = at_head(&feed, 2).await;
    world.send(2, other, &row("c", 1, user, 5));
    let told = told_until(&mut reader, "gap other_partition").await;
    assert_eq!(told, ["gap partitioner", "gap other_partition"]);
    // Nor does any fence prove anything from now on: rows go another way than fences.
    world.send(0, user, &fence(2, user, 1));
    world.send(0, user, &row("c", 3, user, 6));
    let told = told_until(&mut reader, &format!("+{user}:6")).await;
    assert_eq!(told, [format!("+{user}:6")]);
    world.send(0, user, &row("c", 4, user, 7));
    assert_eq!(told_until(&mut reader, &format!("+{user}:7")).await, [format!("+{user}:7")]);
}

/// A fence counts in its own partition only, and after everything before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_counts_in_its_own_partition() {
    let Some(world) = World::new("fences") else { return };
    let feed = world.feed().await;
    let (user, other) = (user_of(&feed, 0), user_of(&feed, 1));
    let mut reader = at_head(&feed, 0).await;
    let mut elsewhere = at_head(&feed, 1).await;
    world.send(0, user, &row("c", 2, user, 5));
    world.send(0, user, &fence(3, user, 2));
    world.send(1, other, &fence(4, other, 3));
    assert_eq!(
        told_until(&mut reader, "fence 2").await,
        [format!("+{user}:5"), "fence 2".to_owned()]
    );
    assert_eq!(told_until(&mut elsewhere, "fence 3").await, ["fence 3"]);
}

/// A new fence that lies before what was told: the source has gone back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_went_back_is_noticed() {
    let Some(world) = World::new("rewound") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 1);
    let mut reader = at_head(&feed, 1).await;
    world.send(1, user, &fence(10, user, 1));
    world.send(1, user, &row("c", 11, user, 5));
    world.send(1, user, &fence(12, user, 2));
    // Said again: not new.
    world.send(1, user, &fence(10, user, 1));
    world.send(1, user, &fence(12, user, 2));
    world.send(1, user, &fence(7, user, 3));
    world.send(1, user, &row("d", 8, user, 5));
    let told = told_until(&mut reader, &format!("-{user}:5")).await;
    let gaps: Vec<_> = told.iter().filter(|event| event.starts_with("gap")).collect();
    assert_eq!(gaps, ["gap source_rewound"], "{told:?}");
}

/// More than a reader's queue holds, and than is fetched ahead: nothing is left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_misses_nothing() {
    let Some(world) = World::new("slow") else { return };
    let feed = world.feed().await;
    let user = user_of(&feed, 2);
    let mut reader = at_head(&feed, 2).await;
    for item in 1..=500 {
        world.send(2, user, &row("c", item, user, item));
    }
    let told = told_until(&mut reader, &format!("+{user}:500")).await;
    let expected: Vec<_> = (1..=500).map(|item| format!("+{user}:{item}")).collect();
    assert_eq!(told, expected);
}
