//! The operator's port, health, and reflection.

use std::time::Duration;

use futures_util::StreamExt;
use seen_proto::v1::{self, EntryState};
use seen_server::node::{Node, NodeOptions};
use seen_server::shutdown::Stop;
use seen_server::telemetry::MetricsHandle;
use seen_store::memory::ReadFault;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::ask::{PATIENCE_MS, READ, SENT, filter, mark, patient};
use super::blocked::Blocked;
use super::refusal::{UNKNOWN_NAMESPACE, invalid};
use super::stage::{Stage, config, connect};

#[tokio::test]
async fn status_counts_what_was_asked_and_held() {
    let mut stage = Stage::open().await;
    let fresh = stage.status().await;
    assert_eq!((fresh.cluster.len(), fresh.incarnation.len()), (16, 16));
    assert_eq!((fresh.version.as_str(), fresh.draining), (env!("CARGO_PKG_VERSION"), false));
    let names: Vec<_> = fresh.namespaces.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, [READ, SENT]);
    assert_eq!(fresh.partitions.len(), 8, "four of each namespace");
    assert!(fresh.problems.is_empty(), "{:?}", fresh.problems);
    stage.api.mark(mark(1, READ, 0..30)).await;
    stage.rebuild(1, READ).await;
    for _ in 0..5 {
        stage.api.filter(filter(1, &[READ], 0..10)).await;
    }
    let refused = stage.api.0.filter(patient(filter(1, &["nowhere"], [1]))).await;
    UNKNOWN_NAMESPACE.is(&refused.expect_err("no such namespace"));
    let status = stage.status().await;
    let (traffic, memory) = (status.traffic.expect("present"), status.memory.expect("present"));
    assert_eq!((traffic.filters, traffic.checks, traffic.marks), (5, 50, 30));
    assert_eq!((traffic.hits, traffic.degraded, traffic.errors), (5, 0, 1));
    assert_eq!((memory.entries, memory.builds, memory.builds_running), (1, 1, 0));
    assert!(memory.bytes > 0 && memory.bytes < memory.bytes_max);
    assert!(status.namespaces.iter().all(|n| n.false_negatives == 0));
    assert_eq!(status.namespaces[0].configured_false_positive_rate, 0.01);
    assert!(!status.namespaces[0].time_index && status.namespaces[0].retention_ms.is_none());
    stage.close().await;
}

#[tokio::test]
async fn status_tells_what_rows_and_time_index_take() {
    let mut config = config();
    config.namespace[0].time_index = true;
    let mut stage = Stage::with(config).await;
    for user in 0..20 {
        stage.api.mark(mark(user, READ, user * 1_000..user * 1_000 + 500)).await;
    }
    let namespaces = stage.status().await.namespaces;
    let rows = |at: usize| (namespaces[at].rows, namespaces[at].size_exact);
    assert_eq!((rows(0), rows(1)), ((Some(10_000), true), (Some(0), true)));
    let a_row = |bytes: Option<u64>| bytes.expect("known") / 10_000;
    // An id of eight bytes, a time of six, and what the store needs for itself.
    assert!((10..80).contains(&a_row(namespaces[0].rows_bytes)), "{namespaces:?}");
    assert!((10..80).contains(&a_row(namespaces[0].time_index_bytes)), "{namespaces:?}");
    assert_eq!(namespaces[1].time_index_bytes, None);
    stage.close().await;
}

#[tokio::test(start_paused = true)]
async fn status_waits_for_a_silent_storage_only_for_a_while() {
    let mut blocked = Blocked::open().await;
    blocked.api.mark(mark(1, READ, 0..10)).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    let mut status = async || {
        let began = Instant::now();
        let answer = blocked.admin.status(v1::StatusRequest {}).await.expect("answered");
        (answer.into_inner().namespaces[0].rows, began.elapsed().as_millis())
    };
    assert_eq!(status().await, (None, 500));
    assert_eq!(status().await, (None, 500));
    blocked.store.heal();
    assert_eq!(status().await, (Some(10), 0), "the look that was begun goes on");
    blocked.api.mark(mark(1, READ, 10..20)).await;
    assert_eq!(status().await.0, Some(10), "looked at lately");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(status().await.0, Some(20));
}

#[tokio::test]
async fn evicted_users_are_answered_from_storage_and_rebuilt_ones_from_memory() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(1, READ, 0..50)).await;
    stage.api.mark(mark(1, SENT, 0..5)).await;
    let built = stage.rebuild(1, READ).await;
    let entry = built.entry.expect("present");
    assert_eq!((entry.state(), entry.items, built.rows_read), (EntryState::Ready, 50, 50));
    stage.rebuild(1, SENT).await;
    let only = v1::EvictUserRequest { user: 1, namespace: SENT.to_owned() };
    let evicted = stage.admin.evict_user(only).await.expect("evicted").into_inner();
    assert_eq!((evicted.evicted, evicted.kept), (1, 0));
    assert_eq!(stage.evict(1).await.evicted, 1, "the other one");
    assert_eq!(stage.evict(1).await.evicted, 0, "nothing is left");
    assert_eq!(stage.api.unread(1, READ, &[0, 49, 50]).await, [50]);
    let again = stage.rebuild(1, READ).await.entry.expect("present");
    assert!(again.generation > entry.generation, "another life of the entry");
    assert_eq!(stage.rebuild(77, READ).await.rows_read, 0, "a user without a history");
    stage.close().await;
}

#[tokio::test]
async fn bad_requests_of_the_operator_are_refused_too() {
    let mut stage = Stage::open().await;
    let nowhere = || "nowhere".to_owned();
    let evict = v1::EvictUserRequest { user: 1, namespace: nowhere() };
    UNKNOWN_NAMESPACE.is(&stage.admin.evict_user(evict).await.expect_err("unknown"));
    let rebuild = v1::RebuildUserRequest { user: 1, namespace: nowhere() };
    UNKNOWN_NAMESPACE.is(&stage.admin.rebuild_user(rebuild).await.expect_err("unknown"));
    let unnamed = v1::RebuildUserRequest { user: 1, namespace: String::new() };
    let refused = stage.admin.rebuild_user(unnamed).await.expect_err("unnamed");
    invalid("namespace", "empty").is(&refused);
    let long = v1::EvictUserRequest { user: 1, namespace: "x".repeat(49) };
    let refused = stage.admin.evict_user(long).await.expect_err("too long");
    invalid("namespace", "at most 48").is(&refused);
    let drain = v1::DrainRequest { timeout_ms: 60_001 };
    let refused = stage.admin.drain(drain).await.expect_err("too long");
    invalid("timeout_ms", "60001; at most 60000").is(&refused);
    let mut vague = Request::new(v1::RebuildUserRequest { user: 1, namespace: READ.to_owned() });
    vague.metadata_mut().insert("grpc-timeout", "soon".parse().expect("ASCII"));
    let refused = stage.admin.rebuild_user(vague).await.expect_err("malformed");
    invalid("grpc-timeout", "1 to 8 digits").is(&refused);
    assert!(!stage.status().await.draining);
    stage.close().await;
}

#[tokio::test]
async fn drain_counts_what_runs_ends_the_node_and_may_be_repeated() {
    let mut stage = Stage::open().await;
    let (ask, asked) = mpsc::channel(1);
    let opened = stage.api.0.mark_stream(ReceiverStream::new(asked)).await.expect("opened");
    let mut answers = opened.into_inner();
    let request = |id| v1::MarkStreamRequest {
        request_id: id,
        mark: Some(mark(1, READ, [id])),
        timeout_ms: PATIENCE_MS,
    };
    ask.send(request(1)).await.expect("open");
    answers.next().await.expect("open").expect("answered");
    for _ in 0..2 {
        let drain = v1::DrainRequest { timeout_ms: 50_000 };
        let begun = stage.admin.drain(drain).await.expect("begun").into_inner();
        assert_eq!(begun.calls_running, 1, "the stream");
        assert!(stage.status().await.draining);
    }
    stage.stop_requested().await;
    ask.send(request(2)).await.expect("open");
    let answer = answers.next().await.expect("open").expect("what runs is answered");
    assert_eq!(answer.request_id, 2);
    drop(ask);
    assert!(answers.next().await.is_none());
    stage.close().await;
}

#[tokio::test]
async fn health_is_answered_for_the_server_and_the_service() {
    let mut stage = Stage::open().await;
    let mut health = HealthClient::new(connect(stage.at.api).await);
    let request = HealthCheckRequest { service: "seen.v1.SeenService".to_owned() };
    let mut watched = health.watch(patient(request)).await.expect("opened").into_inner();
    let mut next = async || watched.next().await.expect("open").expect("answered").status();
    // It follows readiness, a moment later.
    while next().await != ServingStatus::Serving {}
    for service in ["", "seen.v1.SeenService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(patient(request)).await.expect("answered").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "seen.v1.Nothing".to_owned() };
    let unknown = health.check(patient(request)).await.expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    stage.admin.drain(v1::DrainRequest { timeout_ms: 0 }).await.expect("begun");
    assert_eq!(next().await, ServingStatus::NotServing, "whoever watches is sent away");
    drop((health, watched));
    stage.close().await;
}

#[tokio::test]
async fn health_waits_for_every_part() {
    let options = NodeOptions { config: config(), ephemeral: true, linked: false };
    let metrics = MetricsHandle::shared().expect("one recorder");
    let node = Node::start_with(options, metrics, Stop::default(), &["seed"]).await;
    let node = node.expect("it starts");
    let mut health = HealthClient::new(connect(node.addresses().api).await);
    let request = HealthCheckRequest { service: "seen.v1.SeenService".to_owned() };
    let mut watched = health.watch(patient(request)).await.expect("opened").into_inner();
    let mut next = async || watched.next().await.expect("open").expect("answered").status();
    assert_eq!(next().await, ServingStatus::NotServing, "the seed is not there yet");
    node.readiness().ready("seed");
    assert_eq!(next().await, ServingStatus::Serving);
    drop((health, watched));
    node.stop().await.expect("a clean end");
}

/// Asks reflection one question.
async fn reflect(channel: Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel);
    let asks = patient(tokio_stream::iter([request]));
    let mut answers = client.server_reflection_info(asks).await.expect("opened").into_inner();
    let answer = answers.next().await.expect("an answer").expect("answered");
    answer.message_response.expect("of some kind")
}

#[tokio::test]
async fn reflection_names_the_services_and_gives_their_files() {
    let stage = Stage::open().await;
    for (address, own) in
        [(stage.at.api, "seen.v1.SeenService"), (stage.at.admin, "seen.v1.AdminService")]
    {
        let list = MessageRequest::ListServices(String::new());
        let MessageResponse::ListServicesResponse(list) =
            reflect(connect(address).await, list).await
        else {
            panic!("another kind of answer");
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&own), "{names:?}");
        let seen = names.iter().filter(|name| name.starts_with("seen.")).count();
        assert_eq!(seen, 1, "a port lists what it serves: {names:?}");
        let symbol = MessageRequest::FileContainingSymbol(own.to_owned());
        let MessageResponse::FileDescriptorResponse(files) =
            reflect(connect(address).await, symbol).await
        else {
            panic!("another kind of answer");
        };
        let name = own.rsplit('.').next().expect("a name").as_bytes();
        let holds = |file: &Vec<u8>| file.windows(name.len()).any(|part| part == name);
        assert!(files.file_descriptor_proto.iter().any(holds));
    }
    stage.close().await;
}
