//! The settings of namespaces as one number, so that two ends of a connection can tell whether they mean the same.

use seen_filter::hash::mix;
use seen_filter::{NamespaceSettings, TimeRule};

/// Raised when a setting is added that changes what an answer, a token or an entry means.
const LAYOUT: u64 = 1;

/// What must be the same for an entry of one replica to stand for another's: the name, the false-positive rate, both ways to
/// expire, and whose time is kept. The number of the namespace is left out, and so is its index, which changes no answer.
///
/// It depends on these values alone: neither on the version of the program, nor on the machine, nor on the cluster.
pub fn namespace_digest(settings: &NamespaceSettings) -> u64 {
    let mut digest = mix(LAYOUT);
    let mut take = |word: u64| digest = mix(digest ^ word);
    take(settings.name.len() as u64);
    for chunk in settings.name.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        take(u64::from_le_bytes(bytes));
    }
    take(settings.false_positive_rate.to_bits());
    let retention = settings.retention;
    take(retention.map_or(0, |retention| retention.span_ms));
    take(retention.map_or(0, |retention| retention.bucket_ms));
    take(settings.newest_max.map_or(0, u64::from));
    take(match settings.time_rule {
        TimeRule::First => 1,
        TimeRule::Last => 2,
    });
    digest
}

/// The digests of all namespaces in their order, which numbers them: tokens carry these numbers. Never 0.
pub fn settings_digest<'a>(namespaces: impl IntoIterator<Item = &'a NamespaceSettings>) -> u64 {
    let digests = namespaces.into_iter().map(namespace_digest);
    digests.fold(mix(LAYOUT), |all, one| mix(all ^ one)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::{NamespaceId, Retention};

    fn named(name: &str) -> NamespaceSettings {
        NamespaceSettings::new(NamespaceId::new(0), name)
    }

    #[test]
    fn every_setting_that_changes_answers_changes_the_digest() {
        let base = named("feed_read");
        let retention = Retention { span_ms: 86_400_000, bucket_ms: 3_600_000 };
        let others = [
            named("feed_reads"),
            named("feed_rea"),
            NamespaceSettings { false_positive_rate: 0.02, ..base.clone() },
            NamespaceSettings { retention: Some(retention), ..base.clone() },
            NamespaceSettings { newest_max: Some(86_400), ..base.clone() },
            NamespaceSettings { time_rule: TimeRule::Last, ..base.clone() },
        ];
        let mut digests: Vec<u64> = others.iter().map(namespace_digest).collect();
        digests.push(namespace_digest(&base));
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), others.len() + 1);
        let moved = NamespaceSettings { id: NamespaceId::new(3), time_index: true, ..base.clone() };
        assert_eq!(namespace_digest(&moved), namespace_digest(&base));
    }

    #[test]
    fn the_order_counts() {
        let (a, b) = (named("feed_read"), named("push_sent"));
        assert_ne!(settings_digest([&a, &b]), settings_digest([&b, &a]));
        assert_ne!(settings_digest([&a]), settings_digest([&a, &b]));
    }

    /// It is compared across versions of the program: this number must never change.
    #[test]
    fn a_known_digest() {
        assert_eq!(settings_digest([&named("feed_read")]), 3_534_079_499_061_442_761);
    }
}
