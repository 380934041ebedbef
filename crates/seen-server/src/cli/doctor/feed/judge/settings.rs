//! How the topic itself is set: what it throws away, and when.

use super::{Judge, advice};

/// A replica that was away for less than this must find what it missed.
const RETENTION_MS_MIN: u64 = 3_600_000;
/// Records may come as near to the largest allowed size as this, in percent.
const SIZE_PERCENT_MAX: u64 = 80;

impl Judge<'_> {
    /// Everything about the topic's settings.
    pub(super) fn settings(&mut self) {
        let settings = match &self.sampled.settings {
            Ok(settings) => settings,
            Err(why) => {
                let what = format!("they cannot be read: {why}");
                let mend = "allow the login DescribeConfigs of the topic, or look by hand: cleanup.policy \
                            must be delete, and retention.ms above an hour";
                return self.warning("settings", what, mend);
            }
        };
        let text = |name: &str| settings.get(name).map(String::as_str);
        let number = |name: &str| text(name)?.parse::<i64>().ok();
        if text("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            let what = "cleanup.policy is compact: of all rows of a user, or of one, Kafka keeps the \
                        newest record and throws the others away before they are read";
            self.error("compaction", what, advice::set(self.wanted, "cleanup.policy=delete"));
        }
        if let Some(ms) = number("retention.ms").and_then(|ms| u64::try_from(ms).ok())
            && ms < RETENTION_MS_MIN
        {
            let what = format!(
                "records are kept for {} s: a replica that was away for longer, or builds for longer, has \
                 missed some and trusts nobody in memory",
                ms / 1_000
            );
            self.warning("retention", what, advice::set(self.wanted, "retention.ms=86400000"));
        }
        if let Some(bytes) = number("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()) {
            self.retention_bytes(bytes);
        }
        if text("unclean.leader.election.enable") == Some("true") {
            let what = "an out-of-date broker may become a leader: acknowledged records are lost then, and \
                        their numbers given again";
            let mend = advice::set(self.wanted, "unclean.leader.election.enable=false");
            self.warning("leader election", what, mend);
        }
        if let Some(most) = number("max.message.bytes").and_then(|bytes| u64::try_from(bytes).ok())
        {
            self.size(most);
        }
    }

    /// How long the bytes kept last at the pace of the sample.
    fn retention_bytes(&mut self, kept: u64) {
        let spans = self.census().parts.values().filter_map(|part| {
            let (first, newest) = part.span_ms?;
            let span_ms = u64::try_from(newest - first).ok().filter(|span| *span >= 1_000)?;
            Some(u128::from(kept) * u128::from(span_ms) / u128::from(part.bytes.max(1)))
        });
        let Some(lasts_ms) = spans.min() else {
            let what = format!("a partition keeps {kept} bytes, whatever their age");
            return self.note("retention", what);
        };
        if lasts_ms < u128::from(RETENTION_MS_MIN) {
            let what = format!(
                "a partition keeps {kept} bytes, which at the sample's pace are {} s",
                lasts_ms / 1_000
            );
            self.warning("retention", what, advice::set(self.wanted, "retention.bytes=-1"));
        }
    }

    fn size(&mut self, most: u64) {
        let (largest, partition, offset) = self.census().largest;
        let largest = largest as u64;
        if largest * 100 > most * SIZE_PERCENT_MAX {
            let what = format!(
                "the largest record has {largest} bytes (record {offset} of partition {partition}), and \
                 {most} are allowed: a larger one stops the producer"
            );
            let mend = advice::set(self.wanted, &format!("max.message.bytes={}", most * 4));
            self.warning("message size", what, mend);
        } else if largest > 0 {
            let what = format!("the largest record has {largest} bytes; {most} are allowed");
            self.note("message size", what);
        }
    }
}
