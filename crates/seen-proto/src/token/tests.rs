//! Nothing that a token stands for is ever lost, whatever is merged in whatever order.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use seen_filter::{
    CommitStamp, Domain, FeedId, Incarnation, NamespaceId, Partition, Shard, Timeline,
};

use super::*;
use crate::limits::TOKEN_FRAME_BYTES_MAX;

const CLUSTER: ClusterId = ClusterId::new(0xfeed_0000_0000_0001);

fn claim(feed: u16, incarnation: u64, seq: u64, stamp: Option<(u64, u64)>) -> WriteClaim {
    WriteClaim {
        feed: FeedId::new(NamespaceId::new(feed), Shard::new(0), Partition::new(feed % 4)),
        incarnation: Incarnation::new(incarnation),
        seq: AckSeq::new(seq),
        stamp: stamp.map(|(timeline, position)| {
            CommitStamp::new(Domain::new(1), Timeline::new(timeline), position)
        }),
    }
}

/// Few writers, so that claims meet; two timelines, so that some stamps are incomparable.
fn claims(n: usize) -> impl Strategy<Value = Vec<WriteClaim>> {
    let stamp = proptest::option::weighted(0.9, (0..2_u64, 0..50_u64));
    let one = (0..4_u16, 0..4_u64, 0..20_u64, stamp);
    vec(one.prop_map(|(feed, who, seq, stamp)| claim(feed, who, seq, stamp)), 0..n)
}

fn any_element() -> impl Strategy<Value = Element> {
    let feed = (any::<u16>(), any::<u16>(), any::<u16>());
    let stamp = proptest::option::of((any::<u32>(), any::<u64>(), any::<u64>()));
    let write = (feed, any::<u64>(), any::<u64>(), stamp).prop_map(|(feed, who, seq, stamp)| {
        Element::Write(WriteClaim {
            feed: FeedId::new(NamespaceId::new(feed.0), Shard::new(feed.1), Partition::new(feed.2)),
            incarnation: Incarnation::new(who),
            seq: AckSeq::new(seq),
            stamp: stamp.map(|(domain, timeline, position)| {
                CommitStamp::new(Domain::new(domain), Timeline::new(timeline), position)
            }),
        })
    });
    let wildcard = (any::<u64>(), any::<u64>()).prop_map(|(who, seq)| {
        Element::Wildcard(Wildcard { incarnation: Incarnation::new(who), seq: AckSeq::new(seq) })
    });
    prop_oneof![3 => write, 1 => wildcard]
}

fn of(claims: &[WriteClaim], source: &WildcardSource) -> Token {
    let mut token = Token::new();
    for claim in claims {
        token.add(Element::Write(*claim), || source.fresh());
    }
    token
}

/// The set without the bound, which only decoding builds.
fn unbounded(claims: &[WriteClaim]) -> Token {
    let mut token = Token::new();
    claims.iter().for_each(|claim| token.insert(Element::Write(*claim)));
    token
}

/// True if a reader that satisfies the token by fences or by stamps has surely seen the claim: for
/// either way on its own, since a replica may use either.
fn stands_for(token: &Token, claim: &WriteClaim) -> bool {
    token.elements().iter().any(|element| match element {
        Element::Wildcard(_) => true,
        Element::Write(kept) => {
            let fenced = (kept.feed, kept.incarnation) == (claim.feed, claim.incarnation)
                && kept.seq >= claim.seq;
            let stamped = match (kept.stamp, claim.stamp) {
                (Some(kept), Some(claim)) => kept.covers(claim),
                (Some(_), None) => false,
                (None, _) => true,
            };
            fenced && stamped
        }
    })
}

fn never() -> Wildcard {
    panic!("this merge must not collapse")
}

proptest! {
    #[test]
    fn nothing_is_lost(parts in vec(claims(12), 1..6)) {
        let source = WildcardSource::new(Incarnation::new(99));
        let mut session = Token::new();
        for part in &parts {
            session.merge(&of(part, &source), || source.fresh());
            prop_assert!(session.elements().len() <= TOKEN_ELEMENTS_MAX);
        }
        for claim in parts.iter().flatten() {
            prop_assert!(stands_for(&session, claim), "{claim:?} is lost in {session:?}");
        }
    }

    #[test]
    fn merging_is_a_set_union(a in claims(20), b in claims(20), c in claims(20)) {
        let (a, b, c) = (unbounded(&a), unbounded(&b), unbounded(&c));
        let union = |tokens: [&Token; 2]| {
            let mut union = Token::new();
            tokens.into_iter().flat_map(Token::elements).for_each(|e| union.insert(*e));
            union
        };
        prop_assert_eq!(union([&a, &b]), union([&b, &a]));
        prop_assert_eq!(union([&a, &a]), a.clone());
        prop_assert_eq!(union([&union([&a, &b]), &c]), union([&a, &union([&b, &c])]));

        // While it fits, merge is that union and draws no wildcard.
        let all = union([&a, &b]);
        if all.elements().len() <= TOKEN_ELEMENTS_MAX {
            let mut merged = a.clone();
            merged.merge(&b, never);
            prop_assert_eq!(merged, all);
        }
    }

    #[test]
    fn a_full_set_collapses_to_one_fresh_wildcard(claims in claims(40)) {
        let exact = unbounded(&claims);
        prop_assume!(exact.elements().len() > TOKEN_ELEMENTS_MAX);
        let source = WildcardSource::new(Incarnation::new(99));
        let (used, mut merged) = (source.fresh(), exact);
        merged.merge(&Token::new(), || source.fresh());
        let fresh = Wildcard { incarnation: Incarnation::new(99), seq: AckSeq::new(2) };
        prop_assert_eq!(merged.elements(), [Element::Wildcard(fresh)]);
        prop_assert!(used.seq < fresh.seq);
    }

    #[test]
    fn bytes_keep_the_token(elements in vec(any_element(), 0..=TOKEN_ELEMENTS_MAX)) {
        let mut token = Token::new();
        elements.iter().for_each(|element| token.insert(*element));
        let mut raw = Vec::new();
        token.encode(CLUSTER, &mut raw);
        prop_assert!(raw.len() <= TOKEN_FRAME_BYTES_MAX);
        prop_assert_eq!(raw.is_empty(), token.is_empty());
        prop_assert_eq!(Token::decode(&raw, CLUSTER), Ok(token.clone()));
        prop_assert_eq!(Token::cluster_of(&raw), Ok((!token.is_empty()).then_some(CLUSTER)));
    }

    #[test]
    fn joined_bytes_are_the_union(parts in vec(vec(any_element(), 0..4), 0..5)) {
        let (mut joined, mut union) = (Vec::new(), Token::new());
        for part in &parts {
            let mut token = Token::new();
            part.iter().for_each(|element| token.insert(*element));
            token.encode(CLUSTER, &mut joined);
            part.iter().for_each(|element| union.insert(*element));
        }
        prop_assert_eq!(Token::decode(&joined, CLUSTER), Ok(union.clone()));
        let mut again = Vec::new();
        union.encode(CLUSTER, &mut again);
        prop_assert!(again.len() <= joined.len());
        prop_assert_eq!(Token::decode(&again, CLUSTER), Ok(union));
    }

    #[test]
    fn damage_is_noticed(elements in vec(any_element(), 1..6), at: prop::sample::Index, bit in 0..8_u32) {
        let mut token = Token::new();
        elements.iter().for_each(|element| token.insert(*element));
        let mut raw = Vec::new();
        token.encode(CLUSTER, &mut raw);
        let at = at.index(raw.len());
        raw[at] ^= 1_u8 << bit;
        prop_assert!(Token::decode(&raw, CLUSTER).is_err());
        prop_assert!(Token::cluster_of(&raw).is_err());
        raw[at] ^= 1_u8 << bit;
        let cut = Token::decode(&raw[..at], CLUSTER);
        prop_assert!(at == 0 || cut == Err(TokenError::Truncated { bytes: at }), "{cut:?}");
    }

    #[test]
    fn garbage_is_no_token(raw in vec(any::<u8>(), 0..1_100)) {
        prop_assert!(raw.is_empty() || Token::decode(&raw, CLUSTER).is_err());
        let mut versioned = raw;
        versioned.insert(0, codec::VERSION);
        prop_assert!(Token::decode(&versioned, CLUSTER).is_err());
    }
}

#[test]
fn each_fault_has_its_own_error() {
    let mut raw = Vec::new();
    of(&[claim(1, 2, 3, None)], &WildcardSource::new(Incarnation::new(1)))
        .encode(CLUSTER, &mut raw);
    let other = ClusterId::new(7);
    assert_eq!(
        Token::decode(&raw, other),
        Err(TokenError::OtherCluster { found: CLUSTER, expected: other })
    );
    assert_eq!(
        Token::decode(&[&[9], &raw[1..]].concat(), CLUSTER),
        Err(TokenError::Version { version: 9 })
    );
    assert_eq!(
        Token::decode(&vec![1; TOKEN_BYTES_MAX + 1], CLUSTER),
        Err(TokenError::TooLong { bytes: TOKEN_BYTES_MAX + 1 })
    );
    let mut damaged = raw.clone();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    assert_eq!(
        Token::decode(&damaged, CLUSTER),
        Err(TokenError::Garbage { what: "wrong checksum" })
    );
    let mut foreign = Vec::new();
    of(&[claim(1, 2, 3, None)], &WildcardSource::new(Incarnation::new(1)))
        .encode(other, &mut foreign);
    assert!(matches!(
        Token::cluster_of(&[raw, foreign].concat()),
        Err(TokenError::OtherCluster { .. })
    ));
}

#[test]
fn numbers_end_within_64_bits() {
    for (last, valid) in [(0, true), (1, true), (2, false), (0x7f, false), (0x80, false)] {
        let mut raw = vec![codec::VERSION];
        raw.extend(CLUSTER.get().to_le_bytes());
        // One wildcard of incarnation 0, whose number takes ten bytes.
        raw.extend([1, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        raw.extend([0x80; 9]);
        raw.push(last);
        let checksum = crc32fast::hash(&raw);
        raw.extend(checksum.to_le_bytes());
        assert_eq!(Token::decode(&raw, CLUSTER).is_ok(), valid, "{last:#x}");
    }
}

#[test]
fn an_overtaking_acknowledgement_does_not_lower_the_stamp() {
    let mut token = Token::new();
    token.add(Element::Write(claim(1, 1, 5, Some((1, 100)))), never);
    token.add(Element::Write(claim(1, 1, 6, Some((1, 99)))), never);
    assert_eq!(token.elements(), [Element::Write(claim(1, 1, 6, Some((1, 100))))]);
    // Row 53: of two timelines neither position stands for the other.
    token.add(Element::Write(claim(1, 1, 7, Some((2, 600)))), never);
    assert_eq!(token.elements(), [Element::Write(claim(1, 1, 7, None))]);
}

#[test]
fn wildcards_are_never_numbered_twice() {
    let source = WildcardSource::new(Incarnation::new(1));
    let drawn: BTreeSet<AckSeq> = std::thread::scope(|scope| {
        let draw = || (0..1_000).map(|_| source.fresh().seq).collect::<Vec<_>>();
        let threads = [scope.spawn(draw), scope.spawn(draw)];
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(drawn.len(), 2_000);
}
