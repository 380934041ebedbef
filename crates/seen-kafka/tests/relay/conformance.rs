//! A history in memory, followed by a relay and its topic, passes the suite of every store: on librdkafka's
//! mock cluster, and on a real Kafka.

mod brokers;
mod relayed;

use self::relayed::Through;

/// A fixture on brokers of this kind; the test ends here where there are none.
macro_rules! on {
    ($kind:ident) => {
        match crate::conformance::brokers::$kind() {
            Some(brokers) => crate::conformance::Through { brokers, numbers_commits: false },
            None => return,
        }
    };
}

mod mock {
    use seen_store::conformance_tests;

    conformance_tests!(on!(mock), tokio::test(flavor = "multi_thread"));
}

mod kafka {
    use seen_store::conformance_tests;

    conformance_tests!(on!(kafka), tokio::test(flavor = "multi_thread"));
}

/// A reader that begins at a topic's head names its place in the topic, and not a commit of the source:
/// where writes have stamps, the suite asks for that, and these of its tests do not.
#[tokio::test(flavor = "multi_thread")]
async fn events_and_completes_carry_the_stamps_of_commits() {
    use seen_store::conformance::{feeds, forgets};
    let fixture = Through { numbers_commits: true, ..on!(mock) };
    feeds::completes_come_on_every_partition(&fixture).await;
    feeds::events_come_in_commit_order(&fixture).await;
    forgets::forgetting_is_told_in_the_feed(&fixture).await;
}
