//! Any sequence of builds, insertions and transfers agrees with a plain set.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use seen_filter::state::EXACT_ITEMS_MAX;
use seen_filter::{
    Builder, CommitStamp, Generation, HashKey, Inserted, Item, Kernel, Kind, NamespaceId,
    PackedIds, Sizing, UnixMillis, UserEpoch, UserId, UserState, Verdicts, transfer,
};

#[derive(Clone, Debug)]
enum Step {
    /// Insert these items in this bucket.
    Insert(Vec<Item>, u32),
    /// Rebuild from the set, a few rows at a time.
    Rebuild(usize),
    /// Hand the state over to another replica.
    Transfer,
    /// Ask about these, beginning at a position, as well as about all that was read.
    Check(Vec<u64>, usize),
}

fn an_item() -> impl Strategy<Value = Item> {
    // Few kinds and few ids, so that repeats and items of several kinds are common.
    let id = prop_oneof![0..40_u64, any::<u64>(), Just(u64::MAX)];
    (prop_oneof![0..3_u8, any::<u8>()], id).prop_map(|(kind, id)| Item::new(kind, id))
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (vec(an_item(), 1..12), 0..9_u32).prop_map(|(items, b)| Step::Insert(items, b)),
        2 => (vec(an_item(), 50..400), 0..9_u32).prop_map(|(items, b)| Step::Insert(items, b)),
        1 => (1..200_usize).prop_map(Step::Rebuild),
        1 => Just(Step::Transfer),
        2 => (vec(any::<u64>(), 0..700), 0..300_usize).prop_map(|(i, f)| Step::Check(i, f)),
    ]
}

fn rebuilt(key: &HashKey, sizing: &Sizing, set: &BTreeMap<Item, u32>, rows: usize) -> UserState {
    let mut builder = Builder::new(key, sizing);
    set.iter().for_each(|(item, bucket)| builder.push(*item, UnixMillis::default(), *bucket));
    let mut assembly = builder.seal();
    while !assembly.advance(rows) {}
    assembly.into_state()
}

fn transferred(key: &HashKey, state: &UserState) -> UserState {
    let header = transfer::Header {
        namespace: NamespaceId::new(3),
        user: UserId::new(9),
        user_epoch: UserEpoch::new(2),
        generation: Generation::new(8),
        position: Some(CommitStamp::new(1.into_domain(), 2.into_timeline(), 3)),
    };
    let bytes = transfer::encode(state, &header, key).expect("small");
    let (decoded, state) = transfer::decode(&bytes, key).expect("as encoded");
    assert_eq!(decoded, header);
    state
}

trait Raw {
    fn into_domain(self) -> seen_filter::Domain;
    fn into_timeline(self) -> seen_filter::Timeline;
}

impl Raw for u32 {
    fn into_domain(self) -> seen_filter::Domain {
        seen_filter::Domain::new(self)
    }
    fn into_timeline(self) -> seen_filter::Timeline {
        seen_filter::Timeline::new(self.into())
    }
}

/// Every kernel gives the same verdicts, which are right, and leaves the other positions alone.
fn check(key: &HashKey, state: &UserState, set: &BTreeMap<Item, u32>, ids: &[u64], first: usize) {
    let kinds: BTreeSet<Kind> = set.keys().map(|item| item.kind).chain([Kind::new(7)]).collect();
    for kind in kinds.into_iter().take(4) {
        let read = set.keys().filter(|item| item.kind == kind).map(|item| item.id.get());
        let asked: Vec<u64> = ids.iter().copied().chain(read).take(1_000 - first).collect();
        // One byte before the ids, so that they lie unaligned, as in a request.
        let bytes: Vec<u8> =
            [0].into_iter().chain(asked.iter().flat_map(|id| id.to_le_bytes())).collect();
        let packed = PackedIds::new(&bytes[1..]).expect("whole ids");
        let mut plain = Verdicts::new();
        state.check(&key.with_kernel(Kernel::PLAIN), kind, packed, first, &mut plain);
        for kernel in Kernel::available() {
            let mut seen = Verdicts::new();
            seen.set(1_023);
            state.check(&key.with_kernel(kernel), kind, packed, first, &mut seen);
            assert!(seen.get(1_023), "a bit was taken away");
            plain.set(1_023);
            assert_eq!(seen, plain, "{kernel:?}");
        }
        for (index, id) in asked.iter().enumerate() {
            let item = Item::new(kind.get(), *id);
            let seen = plain.get(first + index);
            assert_eq!(seen, state.contains(key, item), "batch and single check");
            assert!(seen || !set.contains_key(&item), "false negative: {item}");
            assert!(!seen || !state.is_exact() || set.contains_key(&item), "false positive");
        }
        assert_eq!(plain.ones().find(|position| *position < first), None);
        assert!(plain.ones().all(|at| at < first + asked.len() || at == 1_023));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_state_agrees_with_a_set(steps in vec(a_step(), 1..14), rate in 0.001..0.1_f64) {
        let (key, sizing) = (HashKey::new(4, [3; 16]), Sizing::new(rate, None));
        let mut set: BTreeMap<Item, u32> = BTreeMap::new();
        let mut state = UserState::EMPTY;
        for step in steps {
            match step {
                Step::Insert(items, bucket) => for item in items {
                    let inserted = state.insert(&key, &sizing, item, bucket);
                    let known = set.contains_key(&item);
                    assert!(!known || inserted == Inserted::AlreadySeen);
                    assert!(known || !state.is_exact() || inserted == Inserted::Added);
                    set.entry(item).and_modify(|b| *b = bucket.min(*b)).or_insert(bucket);
                },
                Step::Rebuild(rows) => state = rebuilt(&key, &sizing, &set, rows),
                Step::Transfer => state = transferred(&key, &state),
                Step::Check(ids, first) => check(&key, &state, &set, &ids, first),
            }
            prop_assert_eq!(state.oldest_bucket(), set.values().min().copied());
            prop_assert!(state.items() <= set.len() as u64);
            prop_assert_eq!(state.is_exact(), set.len() <= EXACT_ITEMS_MAX || state.is_exact());
            prop_assert!(!state.is_exact() || state.items() == set.len() as u64);
            let layers = state.describe();
            prop_assert_eq!(layers.iter().map(|layer| layer.items).sum::<u64>(), state.items());
            prop_assert!(layers.iter().map(|layer| layer.bytes).sum::<usize>() <= state.heap_bytes());
        }
        check(&key, &state, &set, &[], 0);
    }

    #[test]
    fn a_build_keeps_the_newest(rows in vec((an_item(), 0..50_u64), 0..300), max in 1..200_u32) {
        let (key, sizing) = (HashKey::new(4, [3; 16]), Sizing::new(0.01, Some(max)));
        let rows: BTreeMap<Item, u64> = rows.into_iter().collect();
        let mut builder = Builder::new(&key, &sizing);
        for (item, marked_at) in &rows {
            builder.push(*item, UnixMillis::new(*marked_at), *marked_at as u32 / 10);
        }
        let state = builder.finish();
        let mut newest: Vec<(u64, Item)> = rows.iter().map(|(item, at)| (*at, *item)).collect();
        newest.sort_unstable();
        let newest = &newest[newest.len().saturating_sub(max as usize)..];
        prop_assert_eq!(state.items(), newest.len() as u64);
        prop_assert_eq!(state.oldest_bucket(), newest.first().map(|(at, _)| *at as u32 / 10));
        prop_assert!(newest.iter().all(|(_, item)| state.contains(&key, *item)));
    }

    #[test]
    fn verdicts_agree_with_a_set(positions in vec(0..1_024_usize, 0..200), n in 0..1_024_usize) {
        let set: BTreeSet<usize> = positions.iter().copied().collect();
        let mut verdicts = Verdicts::new();
        let mut other = Verdicts::new();
        positions.iter().for_each(|at| if at % 3 == 0 { other.set(*at) } else { verdicts.set(*at) });
        verdicts.or_with(&other);
        prop_assert_eq!(verdicts.ones().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
        let unset: Vec<usize> = (0..n).filter(|at| !set.contains(at)).collect();
        prop_assert_eq!(verdicts.zeros(n).collect::<Vec<_>>(), unset);
        prop_assert_eq!(verdicts.count(), set.len());
        prop_assert!((0..1_024).all(|at| verdicts.get(at) == set.contains(&at)));
    }
}

#[test]
fn positions_that_do_not_exist_are_ignored() {
    let mut verdicts = Verdicts::new();
    verdicts.set(1_024);
    verdicts.set(usize::MAX);
    assert_eq!(verdicts, Verdicts::new());
    assert!(!verdicts.get(usize::MAX));
    assert_eq!(verdicts.zeros(usize::MAX).count(), 1_024);
}

#[test]
fn packed_ids_are_read_in_place() {
    let bytes: Vec<u8> = (0..5_u64).flat_map(|id| (id << 56 | 7).to_le_bytes()).collect();
    let ids = PackedIds::new(&bytes).expect("whole ids");
    assert_eq!((ids.len(), ids.is_empty(), ids.get(5)), (5, false, None));
    assert_eq!(ids.get(4), Some(4 << 56 | 7));
    assert_eq!(ids.iter().rev().count(), 5);
    assert_eq!(PackedIds::new(&bytes[1..]).map(PackedIds::len).map_err(|e| e.bytes), Err(39));
    assert!(PackedIds::EMPTY.is_empty());
}
