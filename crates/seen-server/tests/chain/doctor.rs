//! The pipeline of these tests, examined.

use super::chain::Chain;
use super::servers::{said, seen};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_is_found_to_be_good() {
    let Some(chain) = Chain::start().await else { return };
    let rows: Vec<String> = (1..=12).map(|user| format!("({user}, 1, 2, 5)")).collect();
    chain.sql(&format!("INSERT INTO history_feed_read VALUES {}", rows.join(", "))).await;
    let flags = chain.flags();
    let asked = ["doctor", "--feed", "--json", "--wait", "60s"];
    // The replicas' fences come all the while; the rows, once the producer has read them.
    let has = |read: &Value, about: &str, part: &str| {
        let subject = format!("{about} of topic seen");
        let findings = read["findings"].as_array().expect("a list");
        let mut told = findings.iter().filter(|finding| finding["subject"] == subject.as_str());
        told.any(|finding| finding["what"].as_str().is_some_and(|what| what.contains(part)))
    };
    loop {
        let output = tokio::task::block_in_place(|| seen(&asked, &flags));
        let text = said(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        if !has(&read, "key", "12 rows of 12 users lie where") {
            continue;
        }
        assert_eq!((&read["errors"], &read["warnings"]), (&0.into(), &0.into()), "{read:#}");
        assert!(has(&read, "producer", "Debezium 3.5.0.Final, connector mariadb"), "{read:#}");
        assert!(has(&read, "fences", "each where its user's history does"), "{read:#}");
        assert!(has(&read, "heartbeat", "came while it was waited for"), "{read:#}");
        break;
    }
}
