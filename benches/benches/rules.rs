//! One read step of the rules: 400 ids about a hot user, and about another user each time.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::packed::PackedIds;
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, FeedId, Incarnation, Item, Kind,
    NamespaceId, NamespaceSettings, Tick, Timeline, UnixMillis, UserId, calibrate,
};
use seen_replica::preload;
use seen_replica::rules::{CacheBudget, Candidates, Input, Outcome, Read, Rules, Settings};

const KIND: u8 = 1;
const IDS: usize = 400;
const ITEMS: u64 = 5_000;
/// Enough that their filters (about 250 MB) are in no cache.
const USERS: u64 = 40_000;

struct Question(Vec<u8>);

impl Question {
    /// Every other id was read.
    fn new() -> Self {
        let id = |n: u64| if n.is_multiple_of(2) { n * 7 % ITEMS } else { (1 << 30) + n };
        Self((0..IDS as u64).flat_map(|n| id(n).to_le_bytes()).collect())
    }
}

impl Candidates for Question {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(KIND), PackedIds::new(&self.0).expect("whole ids"));
    }
}

fn tick() -> Tick {
    Tick::new(3_600_000_000)
}

fn rules() -> Rules {
    let namespace = NamespaceId::new(0);
    let feed = FeedId { namespace, ..FeedId::default() };
    let named = NamespaceSettings::new(namespace, "feed_read");
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let settings = Settings::embedded(named, Incarnation::new(1), cache);
    let began = std::time::Instant::now();
    let kernel = calibrate(&mut || began.elapsed().as_nanos() as u64);
    let key = HashKey::new(1, [7; 16]).with_kernel(kernel);
    let rules = Rules::new(settings, key, &[feed], Box::new(move |_| feed), tick());
    let stamp = CommitStamp::new(Domain::new(1), Timeline::new(1), 1);
    let events = vec![FeedEvent::Complete { stamp }];
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
    rules.step(tick(), Input::Feed { feed, batch: &batch });
    let mut builder = Builder::new(rules.key(), rules.sizing());
    (0..ITEMS).for_each(|n| builder.push(Item::new(KIND, n), UnixMillis::new(0), 0));
    let state = builder.finish();
    for user in 0..USERS {
        preload::install(&rules, tick(), UserId::new(user), state.clone()).expect("installed");
    }
    rules
}

fn read(rules: &Rules, question: &Question, user: u64) {
    let user = UserId::new(user);
    let read = Read { user, claims: &[], candidates: question, confirm: false, build: true };
    let (outcome, _) = rules.step(tick(), Input::Read(read));
    let Outcome::Answer(answer) = black_box(outcome) else { panic!("a read is answered") };
    assert!(answer.ask.is_empty() && answer.seen.count() >= IDS / 2);
}

fn benches(c: &mut Criterion) {
    let (rules, question) = (rules(), Question::new());
    let mut group = c.benchmark_group("rules_read_400_ids");
    group.throughput(Throughput::Elements(IDS as u64));
    group.bench_function("hot", |b| b.iter(|| read(&rules, &question, 42)));
    let mut user = 0_u64;
    group.bench_function("cold", |b| {
        let another = || {
            user = (user + 24_593) % USERS;
            user
        };
        b.iter_batched(another, |user| read(&rules, &question, user), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
