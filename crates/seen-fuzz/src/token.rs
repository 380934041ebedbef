//! Session tokens.

use seen_filter::{
    CommitStamp, Domain, FeedId, Incarnation, NamespaceId, Partition, Shard, Timeline,
};
use seen_proto::limits::{TOKEN_BYTES_MAX, TOKEN_ELEMENTS_MAX, TOKEN_FRAME_BYTES_MAX};
use seen_proto::token::{
    AckSeq, ClusterId, Element, Token, TokenError, Wildcard, WildcardSource, WriteClaim,
};

use crate::{Target, sealed};

pub(crate) const TOKEN: Target =
    Target { name: "token", run: both, seeds, memory_bytes: 16_384, memory_per_byte: 64 };

fn both(raw: &[u8]) {
    token(raw);
    token(&sealed(raw));
}

/// No element is lost by reading, writing or merging; a token of another cluster is refused.
fn token(raw: &[u8]) {
    let cluster = match Token::cluster_of(raw) {
        Ok(cluster) => cluster,
        Err(error) => {
            refused(&error, raw);
            return;
        }
    };
    assert_eq!(cluster.is_none(), raw.is_empty());
    let cluster = cluster.unwrap_or(ClusterId::new(1));
    let token = Token::decode(raw, cluster).expect("a token of this cluster");
    assert!(token.elements().is_sorted_by(|a, b| a != b), "an element twice: {token:?}");
    assert!(raw.len() <= TOKEN_BYTES_MAX && token.is_empty() == raw.is_empty());
    let mut written = Vec::new();
    token.encode(cluster, &mut written);
    assert!(written.len() <= raw.len(), "it grew from {} to {}", raw.len(), written.len());
    assert_eq!(Token::decode(&written, cluster).as_ref(), Ok(&token));
    let other = ClusterId::new(cluster.get() ^ 1);
    assert_eq!(Token::decode(raw, other).is_err(), !raw.is_empty());

    let source = WildcardSource::new(Incarnation::new(3));
    let mut merged = Token::new();
    merged.merge(&token, || source.fresh());
    if token.elements().len() <= TOKEN_ELEMENTS_MAX {
        assert_eq!(merged, token);
    } else {
        assert!(matches!(merged.elements(), [Element::Wildcard(_)]), "{merged:?}");
    }
    let mut small = Vec::new();
    merged.encode(cluster, &mut small);
    assert!(small.len() <= TOKEN_FRAME_BYTES_MAX);
}

fn refused(error: &TokenError, raw: &[u8]) {
    assert!(error.to_string().starts_with("token: "), "the field is not named: {error}");
    assert_eq!(matches!(error, TokenError::TooLong { .. }), raw.len() > TOKEN_BYTES_MAX);
}

fn seeds() -> Vec<Vec<u8>> {
    let claim = |feed: u16, stamp| WriteClaim {
        feed: FeedId::new(NamespaceId::new(feed), Shard::new(300), Partition::new(u16::MAX)),
        incarnation: Incarnation::new(u64::MAX),
        seq: AckSeq::new(u64::MAX),
        stamp,
    };
    let stamp = CommitStamp::new(Domain::new(u32::MAX), Timeline::new(9), u64::MAX);
    let elements = [
        Element::Write(claim(1, None)),
        Element::Write(claim(2, Some(stamp))),
        Element::Wildcard(Wildcard { incarnation: Incarnation::new(5), seq: AckSeq::new(1) }),
    ];
    let source = WildcardSource::new(Incarnation::new(3));
    let of = |elements: &[Element]| {
        let (mut token, mut raw) = (Token::new(), Vec::new());
        elements.iter().for_each(|element| token.add(*element, || source.fresh()));
        token.encode(ClusterId::new(0xfeed), &mut raw);
        raw
    };
    let whole = of(&elements);
    let joined = [&whole[..], &of(&elements[..1])].concat();
    let unsealed = whole[..whole.len() - 4].to_vec();
    vec![whole, joined, unsealed, of(&elements[2..])]
}
