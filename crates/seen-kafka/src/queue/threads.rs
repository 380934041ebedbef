//! A reader's queue in the orders in which the topic's thread and the reader may take its lock: shuttle runs each test some
//! thousand times, each time with other turns, and tells if all are asleep.
//!
//! `cargo test -p seen-kafka --features shuttle --lib queue`

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

/// A lock that is used as that of `parking_lot`.
#[derive(Debug)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// Holds the lock; empty only while a [`Condvar`] has it.
pub(super) struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("the lock is held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect("the lock is held")
    }
}

/// A condition that is used as that of `parking_lot`. No time passes here: who is not woken sleeps for ever.
#[derive(Debug)]
pub(super) struct Condvar(shuttle::sync::Condvar);

/// Why a wait has ended.
pub(super) struct Woken;

impl Woken {
    pub fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: std::time::Instant) -> Woken {
        let held = guard.0.take().expect("the lock is held");
        guard.0 = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        Woken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use seen_filter::{
        CommitStamp, Domain, FeedBatch, FeedCursor, FeedError, FeedEvent, FeedId, GapScope, Item,
        NamespaceId, Partition, Shard, Timeline, UserId,
    };
    use shuttle::future::block_on;
    use shuttle::thread;

    use super::super::{KafkaReader, Queued, ReaderQueue};

    /// How often each story is played: by chance, and with few but well-placed turns.
    const PLAYED: usize = 3_000;

    fn play(story: fn()) {
        shuttle::check_random(story, PLAYED);
        shuttle::check_pct(story, PLAYED, 3);
    }

    fn queue() -> Arc<ReaderQueue> {
        let (shard, partition) = (Shard::new(0), Partition::new(0));
        let feed = FeedId { namespace: NamespaceId::new(1), shard, partition };
        ReaderQueue::new(feed, place(0), 2)
    }

    /// Behind the record of this number.
    fn place(record: u64) -> FeedCursor {
        FeedCursor { timeline: Timeline::new(1), offset: record }
    }

    fn stamp(record: u64) -> CommitStamp {
        CommitStamp::new(Domain::new(0), Timeline::new(1), record)
    }

    fn add(record: u64) -> Queued {
        let event = FeedEvent::Add {
            stamp: stamp(record),
            user: UserId::new(1),
            item: Item::new(0, record),
        };
        (event, place(record))
    }

    /// A record that says one thing, and one that says nothing.
    fn put(queue: &ReaderQueue, record: u64) {
        queue.put(&mut vec![add(record)], place(record), Some(stamp(record)));
    }

    fn put_nothing(queue: &ReaderQueue, record: u64) {
        queue.put(&mut Vec::new(), place(record), Some(stamp(record)));
    }

    fn soon() -> std::time::Instant {
        std::time::Instant::now() + Duration::from_secs(1)
    }

    /// What a reader was given.
    #[derive(Default)]
    struct Given {
        records: Vec<u64>,
        complete: u64,
        resume: u64,
    }

    impl Given {
        /// Nothing that is still to come lies before the place, or is complete.
        fn take(&mut self, batch: &FeedBatch, all: &[u64]) {
            for event in &batch.events {
                match event {
                    FeedEvent::Add { stamp, .. } => self.records.push(stamp.position),
                    FeedEvent::Complete { stamp } => {
                        assert!(stamp.position >= self.complete, "less is complete than was");
                        self.complete = stamp.position;
                        self.has_all(all, self.complete);
                    }
                    other => panic!("{other:?} was never put in"),
                }
            }
            assert!(batch.resume.offset >= self.resume, "back from {}", self.resume);
            self.resume = batch.resume.offset;
            self.has_all(all, self.resume);
        }

        fn has_all(&self, all: &[u64], through: u64) {
            let due: Vec<u64> = all.iter().copied().filter(|record| *record <= through).collect();
            assert!(self.records.starts_with(&due), "{:?}, and {through} is said", self.records);
        }
    }

    /// Takes, as a reader does that has a heartbeat each time that nothing is there.
    async fn read(
        queue: &ReaderQueue,
        events_max: usize,
        until: impl Fn(&Given) -> bool,
        all: &[u64],
    ) -> Given {
        let mut given = Given::default();
        while !until(&given) {
            match queue.take(events_max) {
                Some(batch) => given.take(&batch.expect("open"), all),
                None => {
                    if let Some(beat) = queue.beat() {
                        given.take(&beat, all);
                    }
                    if !until(&given) {
                        queue.filled.notified().await;
                    }
                }
            }
        }
        given
    }

    #[test]
    fn what_is_read_is_given_once_in_order_and_nothing_to_come_is_left_behind() {
        const SAY: [u64; 5] = [1, 2, 4, 5, 7];
        fn story(events_max: usize) {
            let queue = queue();
            let topic = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    for record in 1..=7 {
                        if SAY.contains(&record) {
                            put(&queue, record);
                        } else {
                            put_nothing(&queue, record);
                        }
                        // As the topic's thread does: it goes on when half of it is taken.
                        if queue.is_full() {
                            assert!(queue.wait_for_room(soon()));
                        }
                        assert!(queue.inner.lock().events.len() < 2, "more waits than may");
                    }
                })
            };
            let given = block_on(read(&queue, events_max, |given| given.records.len() == 5, &SAY));
            assert_eq!(given.records, SAY);
            topic.join().expect("no panic");
            let last = queue.beat();
            let complete = last.iter().flat_map(|beat| &beat.events).count();
            assert!(given.complete == 7 || complete == 1, "the last is never complete");
        }
        play(|| story(1));
        play(|| story(10));
    }

    #[test]
    fn records_that_say_nothing_move_the_place_and_no_further_than_what_was_given() {
        play(|| {
            let queue = queue();
            let topic = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    put_nothing(&queue, 1);
                    put(&queue, 2);
                    put_nothing(&queue, 3);
                })
            };
            let mut given = block_on(read(&queue, 10, |given| given.records == [2], &[2]));
            topic.join().expect("no panic");
            given.take(&queue.beat().expect("nothing waits"), &[2]);
            assert_eq!((given.resume, given.complete), (3, 3));
        });
    }

    #[test]
    fn what_was_complete_is_not_said_once_reading_begins_anew() {
        play(|| {
            let queue = queue();
            let topic = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    put(&queue, 1);
                    queue.begin_anew();
                    let doubt = FeedEvent::Gap { scope: GapScope::Partition, reason: "cut_off" };
                    queue.say((doubt, place(2)));
                })
            };
            let mut told = Vec::new();
            let is_gap = |event: &FeedEvent| matches!(event, FeedEvent::Gap { .. });
            block_on(async {
                while !told.iter().any(is_gap) {
                    match queue.take(1) {
                        Some(batch) => told.extend(batch.expect("open").events),
                        None => queue.filled.notified().await,
                    }
                }
            });
            topic.join().expect("no panic");
            told.extend(queue.beat().expect("nothing waits").events);
            assert!(told.last().is_some_and(is_gap), "{told:?}");
        });
    }

    #[test]
    fn nothing_follows_only_what_was_there_when_the_ends_were_looked_at() {
        play(|| {
            let queue = queue();
            let topic = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    put(&queue, 1);
                    queue.set_at_end(true);
                    put(&queue, 2);
                })
            };
            let mut given = Vec::new();
            block_on(async {
                while given.len() < 2 {
                    let batch = match queue.take(10) {
                        Some(batch) => batch.expect("open"),
                        None => match queue.beat() {
                            Some(beat) if beat.caught_up => beat,
                            _ => {
                                queue.filled.notified().await;
                                continue;
                            }
                        },
                    };
                    let adds = batch.events.iter().filter(|e| matches!(e, FeedEvent::Add { .. }));
                    given.extend(adds.cloned());
                    if batch.caught_up {
                        assert_eq!(given, [add(1).0], "nothing follows, it is said");
                        queue.filled.notified().await;
                    }
                }
            });
            topic.join().expect("no panic");
        });
    }

    #[test]
    fn a_reader_that_goes_wakes_who_waits_for_room() {
        play(|| {
            let queue = queue();
            let reader = KafkaReader::new(Arc::clone(&queue), Duration::from_secs(1));
            let gone = thread::spawn(move || drop(reader));
            put(&queue, 1);
            put(&queue, 2);
            assert!(queue.is_full() && queue.wait_for_room(soon()));
            assert!(queue.is_abandoned());
            gone.join().expect("no panic");
        });
    }

    #[test]
    fn an_end_is_told_after_all_that_came_before_it() {
        play(|| {
            let queue = queue();
            let topic = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    put(&queue, 1);
                    let message = "closed".to_owned();
                    queue.close(FeedError { message, retry_helps: false });
                })
            };
            let mut given = Given::default();
            let error = block_on(async {
                loop {
                    match queue.take(10) {
                        Some(Ok(batch)) => given.take(&batch, &[1]),
                        Some(Err(error)) => return error,
                        None => queue.filled.notified().await,
                    }
                }
            });
            assert_eq!((given.records, error.message.as_str()), (vec![1], "closed"));
            topic.join().expect("no panic");
        });
    }
}
