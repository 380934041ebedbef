//! A bucket's end makes rebuilds due for every user who has rows in it, at once. They are begun
//! spread over the next bucket, so that storage meets no burst (coherence row 54).

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use seen_filter::build::Builder;
use seen_filter::packed::PackedIds;
use seen_filter::settings::Retention;
use seen_filter::{Item, Kind, NamespaceSettings, UnixMillis, UserId};
use seen_replica::preload;
use seen_replica::rules::{Candidates, Effect, Input, Read, Rules};

use lone::{NOW, namespace, replica};

const USERS: u64 = 4_000;
const BUCKET_MS: u64 = 3_600_000;
const SPAN_MS: u64 = 48 * BUCKET_MS;
/// The bucket that all rows were committed in.
const BUCKET: u32 = 1_000;

struct One;

impl Candidates for One {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(1), PackedIds::new(&[0; 8]).expect("a whole id"));
    }
}

/// Asks about every user, and counts the rebuilds that this begins.
fn begun(rules: &Rules) -> usize {
    let ask = |user| {
        let user = UserId::new(user);
        let read = Read { user, claims: &[], candidates: &One, confirm: false, build: true };
        let (_, effects) = rules.step(NOW, Input::Read(read));
        effects.iter().filter(|effect| matches!(effect, Effect::StartBuild { .. })).count()
    };
    (0..USERS).map(ask).sum()
}

#[test]
fn the_end_of_a_bucket_is_met_over_the_length_of_the_next() {
    let retention = Some(Retention { span_ms: SPAN_MS, bucket_ms: BUCKET_MS });
    let rules = replica(NamespaceSettings { retention, ..namespace() });
    let mut builder = Builder::new(rules.key(), rules.sizing());
    (0..20).for_each(|n| builder.push(Item::new(1, n), UnixMillis::new(0), BUCKET));
    let state = builder.finish();
    for user in 0..USERS {
        preload::install(&rules, NOW, UserId::new(user), state.clone()).expect("installed");
    }
    // The last row of the bucket may have been committed at its very end.
    let ends_ms = (u64::from(BUCKET) + 1) * BUCKET_MS + SPAN_MS;
    rules.step(NOW, Input::StorageClock(UnixMillis::new(ends_ms - 1)));
    assert_eq!(begun(&rules), 0, "nothing has expired yet");
    let mut total = 0;
    for tenth in 1..=10 {
        let at = ends_ms + BUCKET_MS * tenth / 10;
        rules.step(NOW, Input::StorageClock(UnixMillis::new(at)));
        let now = begun(&rules);
        let mean = USERS as usize / 10;
        assert!((mean * 3 / 4..mean * 5 / 4).contains(&now), "{now} rebuilds in one tenth");
        total += now;
    }
    assert_eq!(total, USERS as usize, "each user once");
}
