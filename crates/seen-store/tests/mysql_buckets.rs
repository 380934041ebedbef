//! Point checks of tables whose rows expire: every row from the horizon on is found, also one that was
//! written while a clock was ahead, and no other. How the buckets are asked for differs between servers.

mod servers;
mod upkeep_place;

use std::sync::Arc;

use seen_filter::{NamespaceId, NamespaceSettings, Retention};
use seen_store::MySqlStore;
use servers::OnServer;
use upkeep_place::{BUCKET_MS, FIRST, NS, Place, expiring, mark, there, upkeep};

/// Namespaces whose rows live for so many buckets.
fn living_for(buckets: u64) -> Vec<NamespaceSettings> {
    let mut first = NamespaceSettings::new(NS, "first");
    first.retention = Some(Retention { span_ms: buckets * BUCKET_MS, bucket_ms: BUCKET_MS });
    vec![first, NamespaceSettings::new(NamespaceId::new(1), "second")]
}

/// A store in a database of its own whose rows live for so many buckets.
async fn store(server: OnServer, buckets: u64) -> (Place, Arc<MySqlStore>) {
    let place = Place::new(server).await;
    if buckets * BUCKET_MS != upkeep_place::SPAN_MS {
        place.sql("DROP TABLE history_first; DELETE FROM seen_namespaces WHERE name = 'first'");
    }
    let settings = living_for(buckets);
    let made = MySqlStore::apply_schema(place.options.clone(), settings.clone()).await;
    made.expect("a schema");
    let store = MySqlStore::open(place.options.clone(), settings).await.expect("a store");
    (place, store)
}

/// One item in each bucket, another one in all of them, and some beyond the clock.
async fn every_bucket_is_looked_into(server: OnServer) {
    const AGAIN: u64 = FIRST - 1;
    for buckets in [1, 3, 12] {
        let (place, store) = store(server, buckets).await;
        let last = FIRST + 2 * buckets;
        let asked = AGAIN..=last + 60;
        for bucket in FIRST..=last {
            place.at(bucket);
            mark(&store, [bucket, AGAIN]).await;
            upkeep(&store).await;
            let oldest = bucket.saturating_sub(buckets).max(FIRST);
            let expected: Vec<u64> = [AGAIN].into_iter().chain(oldest..=bucket).collect();
            assert_eq!(there(&store, asked.clone()).await, expected);
        }
        let mut expected: Vec<u64> = [AGAIN].into_iter().chain(last - buckets..=last).collect();
        // More than one statement takes, of which few are there.
        assert_eq!(there(&store, AGAIN..=AGAIN + 900).await, expected);
        // The clock of who wrote these was ahead: within the partitions that are there, and beyond.
        for ahead in [2, 50] {
            place.at(last + ahead);
            mark(&store, [last + ahead]).await;
            expected.push(last + ahead);
            place.at(last);
            assert_eq!(there(&store, asked.clone()).await, expected, "{buckets} buckets");
        }
        store.close().await;
    }
}

macro_rules! on_each {
    ($($server:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $server() {
            if let Some(server) = servers::$server() {
                every_bucket_is_looked_into(server).await;
            }
        }
    )+};
}

on_each!(mariadb, mysql, tidb);

/// TiDB gets rows of few buckets one by one, by a plan of its cache, as long as none is ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_buckets_are_point_gets_on_tidb() {
    let Some(server) = servers::tidb() else { return };
    let place = Place::new(server).await;
    let store = MySqlStore::open(place.options.clone(), expiring()).await.expect("a store");
    let plans = |words: &str| {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.statements_summary WHERE prepared = 1 AND \
             schema_name = '{}' AND digest_text LIKE 'select high_priority `user_id`%' AND \
             plan LIKE '%{words}%'",
            place.database
        );
        server.sql(&sql).expect("a summary").trim().parse::<u64>().expect("a number")
    };
    for bucket in FIRST..FIRST + 4 {
        place.at(bucket);
        mark(&store, [bucket]).await;
    }
    let all: Vec<u64> = (FIRST..FIRST + 4).collect();
    assert_eq!(there(&store, FIRST..=FIRST + 300).await, all);
    assert_eq!((plans("Point_Get") > 0, plans("RangeScan")), (true, 0));
    place.at(FIRST + 9);
    mark(&store, [FIRST + 9]).await;
    place.at(FIRST + 3);
    let ahead: Vec<u64> = all.into_iter().chain([FIRST + 9]).collect();
    assert_eq!(there(&store, FIRST..=FIRST + 300).await, ahead);
    assert!(plans("RangeScan") > 0, "the row ahead was not looked for");
    store.close().await;
}
