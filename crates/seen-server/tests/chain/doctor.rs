//! The pipeline of these tests, examined.

use super::chain::Chain;
use super::producer::Tool;
use super::servers::{said, seen};
use super::wait::awaited;
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
    let read = awaited("the rows in doctor's sample", async || {
        let output = tokio::task::block_in_place(|| seen(&asked, &flags));
        let text = said(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        if has(&read, "key", "12 rows of 12 users lie where") { Ok(read) } else { Err(text) }
    })
    .await;
    assert_eq!((&read["errors"], &read["warnings"]), (&0.into(), &0.into()), "{read:#}");
    let producer = match Tool::chosen() {
        Tool::Debezium => "Debezium 3.5.0.Final, connector mariadb",
        Tool::Canal => "Canal",
        Tool::Maxwell => "Maxwell",
    };
    assert!(has(&read, "producer", producer), "{read:#}");
    assert!(has(&read, "fences", "each where its user's history does"), "{read:#}");
    assert!(has(&read, "heartbeat", "came while it was waited for"), "{read:#}");
}
