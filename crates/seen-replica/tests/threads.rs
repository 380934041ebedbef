//! The rules' own locks, in the orders in which threads may take them: shuttle runs each test some thousand times, each time
//! with other turns. Its atomics are strict: what a weaker ordering would allow is not tried.
//!
//! `cargo test -p seen-replica --features shuttle --test threads`

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::packed::PackedIds;
use seen_filter::state::UserState;
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, FeedId, GapScope, Generation,
    Incarnation, Item, Kind, NamespaceId, NamespaceSettings, PrimaryId, SnapshotId, Tick, Timeline,
    UserEpoch, UserId, transfer,
};
use seen_replica::rules::{
    CacheBudget, Candidates, Claim, Effect, Effects, Input, Install, Origin, Outcome, Read,
    ReadAnswer, Refusal, Rules, Settings,
};
use shuttle::sync::Mutex;
use shuttle::thread;

const NOW: Tick = Tick::new(3_600_000_000);
const ANN: UserId = UserId::new(1);
const X: Item = item(1);

/// How often each story is played: by chance, and with few but well-placed turns.
const PLAYED: usize = 3_000;

const fn item(id: u64) -> Item {
    Item { kind: Kind::new(1), id: seen_filter::ItemId::new(id) }
}

fn stamp(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(1), Timeline::new(1), position)
}

fn key() -> HashKey {
    HashKey::new(1, [7; 16])
}

fn namespace() -> NamespaceSettings {
    NamespaceSettings::new(NamespaceId::new(0), "feed_read")
}

fn play(story: impl Fn() + Send + Sync + 'static) {
    let story = Arc::new(story);
    let again = Arc::clone(&story);
    shuttle::check_random(move || story(), PLAYED);
    shuttle::check_pct(move || again(), PLAYED, 3);
}

/// A replica that follows its only partition, where everything up to position 1 has come by.
fn replica() -> Arc<Rules> {
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let settings = Settings::embedded(namespace(), Incarnation::new(1), cache);
    let feed_of = Box::new(|_| FeedId::default());
    let rules = Rules::of_one_stripe(settings, key(), &[FeedId::default()], feed_of, NOW);
    feed(&rules, vec![FeedEvent::Complete { stamp: stamp(1) }]);
    Arc::new(rules)
}

fn feed(rules: &Rules, events: Vec<FeedEvent>) -> Effects {
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
    rules.step(NOW, Input::Feed { feed: FeedId::default(), batch: &batch }).1
}

fn add(position: u64, item: Item) -> FeedEvent {
    FeedEvent::Add { stamp: stamp(position), user: ANN, item }
}

fn complete(position: u64) -> FeedEvent {
    FeedEvent::Complete { stamp: stamp(position) }
}

/// What another replica acknowledged, of this commit.
fn claim(position: u64) -> Claim {
    let (feed, stamp) = (FeedId::default(), Some(stamp(position)));
    Claim { feed, writer: Incarnation::new(2), seq: position, stamp, wildcard: false }
}

struct One([u8; 8]);

impl Candidates for One {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(1), PackedIds::new(&self.0).expect("one id"));
    }
}

fn read(rules: &Rules, item: Item, claims: &[Claim]) -> (ReadAnswer, Effects) {
    let candidates = One(item.id.get().to_le_bytes());
    let read = Read { user: ANN, claims, candidates: &candidates, confirm: false, build: true };
    match rules.step(NOW, Input::Read(read)) {
        (Outcome::Answer(answer), effects) => (answer, effects),
        other => panic!("{other:?}"),
    }
}

/// Promise (2): whoever carries the token of a write is told "seen", or storage is asked.
fn not_unread(rules: &Rules, item: Item, claims: &[Claim]) {
    let (answer, _) = read(rules, item, claims);
    assert!(answer.seen.get(0) || answer.ask.get(0), "unread, unflagged: {answer:?}");
}

fn begun(effects: Effects) -> Option<Generation> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::StartBuild { generation, .. } => Some(generation),
        _ => None,
    })
}

/// The answer to a build: what storage held as of a commit.
fn install(rules: &Rules, generation: Generation, items: &[Item], position: u64) -> Outcome {
    let (key, mut state) = (key(), UserState::EMPTY);
    for item in items {
        state.insert(&key, rules.sizing(), *item, 0);
    }
    let lower_bound = Some(stamp(position));
    let snapshot = SnapshotId { primary: PrimaryId::default(), lower_bound };
    let (user_epoch, origin) = (UserEpoch::new(0), Origin::Storage);
    let install = Install { user: ANN, generation, state, snapshot, user_epoch, origin };
    rules.step(NOW, Input::Install(install)).0
}

/// Ann is in memory, without anything.
fn ready() -> Arc<Rules> {
    let rules = replica();
    let generation = begun(read(&rules, X, &[]).1).expect("a build");
    assert!(matches!(install(&rules, generation, &[], 1), Outcome::Installed));
    rules
}

fn spawn(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(work)
}

fn all(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Rules R5 and R6: what is covered is read before the bits, and bits are set before anything is covered.
#[test]
fn a_claim_that_is_covered_is_in_the_bits() {
    play(|| {
        let rules = ready();
        let (fed, asked) = (Arc::clone(&rules), Arc::clone(&rules));
        all([
            spawn(move || drop(feed(&fed, vec![add(5, X), complete(5)]))),
            spawn(move || (0..2).for_each(|_| not_unread(&asked, X, &[claim(5)]))),
        ]);
        let (answer, _) = read(&rules, X, &[claim(5)]);
        assert!(answer.seen.get(0), "it came by");
    });
}

/// Rule R1, rows 1 and 2: an event that comes amid a build is found by the install, or finds what was installed.
#[test]
fn an_event_amid_an_install_is_not_missed() {
    play(|| {
        let rules = replica();
        let generation = begun(read(&rules, X, &[]).1).expect("a build");
        let (fed, built) = (Arc::clone(&rules), Arc::clone(&rules));
        all([
            spawn(move || drop(feed(&fed, vec![add(5, X), complete(5)]))),
            spawn(move || {
                let done = install(&built, generation, &[], 1);
                assert!(matches!(done, Outcome::Installed), "{done:?}");
            }),
        ]);
        let (answer, _) = read(&rules, X, &[]);
        assert!(answer.seen.get(0), "lost for good: {answer:?}");
    });
}

/// Rule R2, row 3: an event that came while nobody was cached is in the ring before it is passed over, so that a build which begins in
/// between from an older snapshot has it.
#[test]
fn an_event_that_a_build_just_missed_is_in_the_ring() {
    play(|| {
        let rules = replica();
        let (fed, built) = (Arc::clone(&rules), Arc::clone(&rules));
        all([
            spawn(move || drop(feed(&fed, vec![add(5, X), complete(5)]))),
            spawn(move || {
                let generation = begun(read(&built, X, &[]).1).expect("a build");
                install(&built, generation, &[], 1);
            }),
        ]);
        not_unread(&rules, X, &[]);
    });
}

/// Rule R4, rows 12 and 29: an own write amid a build is in what is installed, and in every answer after its acknowledgement.
#[test]
fn an_own_write_amid_an_install_is_not_missed() {
    play(|| {
        let rules = replica();
        let generation = begun(read(&rules, X, &[]).1).expect("a build");
        let (written, built) = (Arc::clone(&rules), Arc::clone(&rules));
        all([
            spawn(move || {
                let items = [X];
                let begin = Input::BeginWrite { user: ANN, items: &items };
                let (Outcome::Began(write), _) = written.step(NOW, begin) else { panic!("begun") };
                let stamp = Some(stamp(5));
                let committed = Input::Committed { write, user: ANN, items: &items, stamp };
                let (Outcome::Acknowledged(own), _) = written.step(NOW, committed) else {
                    panic!("acknowledged")
                };
                not_unread(&written, X, &[own]);
                // It comes back, and the journal lets go of it.
                feed(&written, vec![add(5, X), complete(5)]);
                not_unread(&written, X, &[own]);
            }),
            spawn(move || drop(install(&built, generation, &[], 1))),
        ]);
        let (answer, _) = read(&rules, X, &[]);
        assert!(answer.seen.get(0), "lost for good: {answer:?}");
    });
}

/// Rule R8, row 52: what was lost in a gap is never "unread", whether the gap comes before or after the install.
#[test]
fn a_gap_amid_an_install_leaves_no_clean_entry() {
    play(|| {
        let rules = replica();
        let generation = begun(read(&rules, X, &[]).1).expect("a build");
        let (fed, built, asked) = (Arc::clone(&rules), Arc::clone(&rules), Arc::clone(&rules));
        all([
            spawn(move || {
                let scope = GapScope::Partition;
                // X was of commit 5, which is lost here.
                feed(&fed, vec![FeedEvent::Gap { scope, reason: "lost" }, complete(6)]);
            }),
            spawn(move || drop(install(&built, generation, &[], 1))),
            spawn(move || not_unread(&asked, X, &[claim(5)])),
        ]);
        not_unread(&rules, X, &[]);
    });
}

/// Rule R3, row 30: the position that an entry is given away with is one that its bits hold.
#[test]
fn a_donors_position_is_in_its_bits() {
    play(|| {
        let rules = ready();
        let (fed, donor) = (Arc::clone(&rules), Arc::clone(&rules));
        all([
            spawn(move || {
                feed(&fed, vec![add(5, X), complete(5)]);
            }),
            spawn(move || match donor.step(NOW, Input::Donate { user: ANN }).0 {
                Outcome::Donated(bytes) => {
                    let (header, state) = transfer::decode(&bytes, &key()).expect("an entry");
                    let covered = header.position.is_some_and(|position| position.covers(stamp(5)));
                    assert!(!covered || state.contains(&key(), X), "{header:?} lacks a commit");
                }
                other => assert!(matches!(other, Outcome::Refused(Refusal::NotClean)), "{other:?}"),
            }),
        ]);
    });
}

/// Row 7, and what memory is counted to hold: builds, evictions and marks at once leave one life of the entry, whose bytes are
/// those that are counted.
#[test]
fn lives_of_an_entry_do_not_mix_and_all_bytes_are_counted() {
    play(|| {
        let rules = ready();
        let empty = rules.settings().cache.used();
        let counted: Vec<_> = (0..2)
            .map(|_| {
                let rules = Arc::clone(&rules);
                spawn(move || {
                    if let (Outcome::Done, effects) = rules.step(NOW, Input::Rebuild { user: ANN })
                        && let Some(generation) = begun(effects)
                    {
                        install(&rules, generation, &[X], 1);
                    }
                    rules.step(NOW, Input::Evict { user: ANN });
                })
            })
            .chain([{
                let rules = Arc::clone(&rules);
                spawn(move || drop(feed(&rules, (2..40).map(|at| add(at, item(at))).collect())))
            }])
            .collect();
        all(counted);
        rules.step(NOW, Input::Evict { user: ANN });
        let left = rules.settings().cache.used();
        assert!(left <= empty, "{left} bytes counted, {empty} with an empty entry");
        assert_eq!(rules.totals().users, 0);
    });
}

/// Sessions, a feed and builds at once, over a store whose commits are numbered: whoever was acknowledged, here or at another replica,
/// is never told "unread".
#[test]
fn sessions_see_what_they_wrote_whoever_builds_meanwhile() {
    play(|| {
        let rules = replica();
        let store = Arc::new(Mutex::new(BTreeMap::<u64, Item>::new()));
        let commit = |store: &Mutex<BTreeMap<u64, Item>>, item| {
            let mut rows = store.lock().expect("unbroken");
            let position = rows.last_key_value().map_or(1, |(position, _)| *position) + 1;
            rows.insert(position, item);
            position
        };
        let (here, rows) = (Arc::clone(&rules), Arc::clone(&store));
        let own = spawn(move || {
            let items = [item(10)];
            let begin = Input::BeginWrite { user: ANN, items: &items };
            let (Outcome::Began(write), _) = here.step(NOW, begin) else { panic!("begun") };
            let stamp = Some(stamp(commit(&rows, items[0])));
            let committed = Input::Committed { write, user: ANN, items: &items, stamp };
            let (Outcome::Acknowledged(own), _) = here.step(NOW, committed) else { panic!("ack") };
            not_unread(&here, items[0], &[own]);
        });
        let (here, rows) = (Arc::clone(&rules), Arc::clone(&store));
        let other = spawn(move || {
            let position = commit(&rows, item(20));
            not_unread(&here, item(20), &[claim(position)]);
            thread::yield_now();
            not_unread(&here, item(20), &[claim(position)]);
        });
        let (here, rows) = (Arc::clone(&rules), Arc::clone(&store));
        let follower = spawn(move || {
            let mut applied = 1;
            for _ in 0..3 {
                let news: Vec<_> = rows
                    .lock()
                    .expect("unbroken")
                    .range(applied + 1..)
                    .map(|(at, item)| (*at, *item))
                    .collect();
                if let Some((last, _)) = news.last() {
                    applied = *last;
                    let events = news.iter().map(|(at, item)| add(*at, *item));
                    feed(&here, events.chain([complete(applied)]).collect());
                }
                thread::yield_now();
            }
        });
        let (here, rows) = (Arc::clone(&rules), Arc::clone(&store));
        let builder = spawn(move || {
            for _ in 0..2 {
                let Some(generation) = begun(read(&here, item(30), &[]).1) else { continue };
                let (items, position) = {
                    let rows = rows.lock().expect("unbroken");
                    let last = rows.last_key_value().map_or(1, |(position, _)| *position);
                    (rows.values().copied().collect::<Vec<_>>(), last)
                };
                install(&here, generation, &items, position);
            }
        });
        all([own, other, follower, builder]);
    });
}
