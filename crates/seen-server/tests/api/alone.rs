//! One process: its calls go through a proxy to its replica, and callers are told what they were told without one.

use std::time::Duration;

use seen_proto::v1::{self, DegradedReason, QualityLevel};
use seen_store::memory::ReadFault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::Code;

use super::ask::{READ, filter, mark, patient, sound, within};
use super::blocked::Blocked;
use super::stage::Stage;

/// What /metrics says of this series; 0 where it is not there.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

async fn metrics(stage: &Stage) -> String {
    let mut stream = TcpStream::connect(stage.at.http).await.expect("it listens");
    let ask = b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    text
}

#[tokio::test]
async fn a_process_answers_through_its_proxy_and_counts_once() {
    let mut stage = Stage::open().await;
    let before = metrics(&stage).await;
    stage.api.mark(mark(1, READ, [1])).await;
    assert_eq!(stage.api.unread(1, READ, &[1, 2]).await, [2]);
    let unknown = patient(filter(1, &["nobody"], [1]));
    stage.api.0.filter(unknown).await.expect_err("no such namespace");
    let after = metrics(&stage).await;
    // Other tests of this program count as well: at least so many came by the proxy.
    let by_proxy = |call: &str| {
        let series = format!("seen_proxy_requests_total{{call=\"{call}\"}}");
        value(&after, &series) - value(&before, &series)
    };
    assert!(by_proxy("mark") >= 1.0 && by_proxy("filter") >= 2.0, "{after}");
    let status = stage.status().await;
    let traffic = status.traffic.expect("always present");
    assert_eq!((traffic.filters, traffic.marks, traffic.errors), (1, 1, 1), "{traffic:?}");
    stage.close().await;
}

#[tokio::test]
async fn a_tag_of_no_pool_is_refused_as_in_a_cluster() {
    let mut stage = Stage::open().await;
    for (tag, fine) in [("feed", true), ("nightly", false)] {
        let mut request = patient(filter(1, &[READ], [1]));
        request.metadata_mut().insert("seen-tag", tag.parse().expect("a value"));
        match stage.api.0.filter(request).await {
            Ok(_) => assert!(fine, "{tag}"),
            Err(status) => {
                assert!(!fine, "{tag}: {status}");
                assert_eq!(status.code(), Code::InvalidArgument);
                assert!(status.message().contains("\"nightly\""), "{status}");
                assert!(status.message().contains("feed"), "it names those that are: {status}");
            }
        }
    }
    stage.close().await;
}

#[tokio::test(start_paused = true)]
async fn while_storage_is_silent_the_replica_answers_before_the_proxy() {
    let mut blocked = Blocked::open().await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    let began = Instant::now();
    let request = within(Duration::from_millis(90), filter(1, &[READ], [1, 2, 3]));
    let answer = blocked.api.0.filter(request).await.expect("answered").into_inner();
    // The proxy waits for 78 ms, of which the replica keeps 5.
    let took = began.elapsed();
    assert!(took > Duration::from_millis(70) && took < Duration::from_millis(78), "{took:?}");
    let quality = answer.quality.expect("always present");
    assert_eq!(quality.level(), QualityLevel::Degraded);
    assert_eq!((quality.reason(), quality.unknown), (DegradedReason::Deadline, 3));
    let status = blocked.admin.status(v1::StatusRequest {}).await.expect("answered").into_inner();
    let traffic = status.traffic.expect("always present");
    assert_eq!((traffic.filters, traffic.degraded), (1, 1), "the replica's own word");
    assert_eq!(blocked.proxy.in_flight(), 0);

    blocked.store.heal();
    assert_eq!(sound(&blocked.api.filter(filter(1, &[READ], [1])).await), [0]);
    let views = blocked.proxy.replicas();
    assert_eq!((views[0].state.as_str(), views[0].breaker.as_str()), ("up", "closed"));
}
