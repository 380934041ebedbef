//! Spans as a collector is sent them: of real processes, and of one process that is all of them.

mod collector;
mod parts;

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{
    FutureExt, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use seen_client::{Client, ClientOptions, FilterCall, MarkCall, PushCall, Session, WhenAway};
use seen_server::config::Config;
use seen_server::node::{Node, NodeOptions};
use seen_server::telemetry::MetricsHandle;
use tokio::net::TcpListener;

use collector::{Collector, Kept};

const NAMESPACE: &str = "feed_read";
/// More than any test needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An application's span.
fn caller(trace: u8, flags: u8) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes([trace; 16]),
        SpanId::from_bytes([0x5c; 8]),
        TraceFlags::new(flags),
        false,
        TraceState::NONE,
    )
}

fn client(url: &str) -> Client {
    let mut options = ClientOptions::new(url);
    options.timeouts.filter = PATIENCE;
    options.timeouts.write = PATIENCE;
    options.timeouts.push = PATIENCE;
    Client::new(options).expect("an address")
}

async fn filter(client: &Client, user: u64) {
    let call = FilterCall::new(NAMESPACE).items(1, [1, 2, 3]).when_away(WhenAway::Error);
    client.filter(&Session::new(user), call).await.expect("answered");
}

/// The one span of a trace with this name, in a process of this role.
fn only<'a>(spans: &'a [Kept], trace: u8, role: &str, name: &str) -> &'a Kept {
    let found: Vec<&Kept> = spans
        .iter()
        .filter(|kept| kept.span.trace_id == [trace; 16])
        .filter(|kept| kept.role == role && kept.span.name == name)
        .collect();
    let [one] = found.as_slice() else { panic!("{role} {name}: {found:#?} of {spans:#?}") };
    one
}

/// Asserts that each is under the one before, the first one under the caller's.
fn assert_nested(spans: &[&Kept]) {
    let mut parent = vec![0x5c; 8];
    for kept in spans {
        assert_eq!(kept.span.parent_span_id, parent, "{kept:#?}");
        parent = kept.span.span_id.clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_call_is_one_trace_from_its_caller_to_storage() {
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings =
        [format!("traces.endpoint={}", collector.endpoint), "traces.sample_ratio=0".to_owned()];
    let (replica, proxy) = parts::start(folder.path(), &settings);
    let client = client(&proxy.api);
    let sampled = |trace| Context::new().with_remote_span_context(caller(trace, 1));
    filter(&client, 7).with_context(sampled(1)).await;
    let session = Session::new(7);
    let mark = MarkCall::new(NAMESPACE).item(1, 2);
    client.mark(&session, mark).with_context(sampled(2)).await.expect("marked");
    let push = PushCall::new(NAMESPACE).items(1, [2]);
    client.filter_users(&push, &[7, 8]).with_context(sampled(3)).await.expect("answered");
    let unsampled = Context::new().with_remote_span_context(caller(4, 0));
    filter(&client, 9).with_context(unsampled).await;
    filter(&client, 10).await;
    proxy.end();
    replica.end();

    let spans = collector.spans();
    for (trace, call, storage) in [
        (1, "filter", "storage.check"),
        (2, "mark", "storage.write"),
        (3, "filter_users", "storage.check"),
    ] {
        let server = only(&spans, trace, "proxy", call);
        let attempt = only(&spans, trace, "proxy", "attempt");
        let answering = only(&spans, trace, "replica", call);
        let asking = only(&spans, trace, "replica", storage);
        assert_nested(&[server, attempt, answering, asking]);
        for kept in [server, attempt, answering, asking] {
            assert_eq!((kept.service.as_str(), kept.says("seen.outcome").as_str()), ("seen", "ok"));
            let (from, to) = (kept.span.start_time_unix_nano, kept.span.end_time_unix_nano);
            assert!(0 < from && from <= to, "{kept:#?}");
        }
        assert_eq!(server.says("seen.pool"), "feed");
        assert_eq!(attempt.says("seen.attempt"), "first");
        assert_eq!(answering.says("seen.namespace"), NAMESPACE);
        assert_eq!(asking.says("seen.jobs_together"), "1");
    }
    let cold = only(&spans, 1, "replica", "filter");
    assert_eq!(
        (cold.says("seen.items").as_str(), cold.says("seen.path").as_str()),
        ("3", "storage")
    );
    assert_eq!(only(&spans, 1, "replica", "storage.check").says("seen.doubt"), "cold");
    let build = only(&spans, 1, "replica", "storage.build");
    assert_eq!(build.span.parent_span_id, cold.span.span_id, "the build that it caused");
    let traces: Vec<u8> = spans.iter().map(|kept| kept.span.trace_id[0]).collect();
    assert!(traces.iter().all(|trace| (1..=3).contains(trace)), "{traces:?}");
}

/// A process that is all roles, with these settings.
async fn node(change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::default();
    for port in
        [&mut config.server.listen, &mut config.server.admin_listen, &mut config.server.http_listen]
    {
        port.set_port(0);
    }
    config.traces.send_every = Duration::from_millis(50);
    change(&mut config);
    let options = NodeOptions { config, ephemeral: true, linked: false };
    let node = Node::start(options).await.expect("it starts");
    node.ready().await;
    node
}

fn of(node: &Node) -> Client {
    client(&format!("http://{}", node.addresses().api))
}

/// What a counter of this process says.
fn counted(name: &str) -> u64 {
    let text = MetricsHandle::shared().expect("installed").render();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|value| value.parse::<u64>().expect("a number")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_trace_begins_one() {
    let collector = Collector::start().await;
    let node = node(|config| {
        config.traces.endpoint = Some(collector.endpoint.clone());
        config.traces.sample_ratio = 1.0;
        config.traces.service_name = "seen-test".to_owned();
    })
    .await;
    filter(&of(&node), 7).await;
    node.stop().await.expect("it ends well");
    let spans = collector.spans();
    let roots: Vec<&Kept> =
        spans.iter().filter(|kept| kept.span.parent_span_id.is_empty()).collect();
    let [root] = roots.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((root.span.name.as_str(), root.role.as_str()), ("filter", "serve"));
    assert!(spans.len() >= 4, "proxy, attempt, replica and storage: {spans:#?}");
    assert!(spans.iter().all(|kept| kept.service == "seen-test"));
    assert!(spans.iter().all(|kept| kept.span.trace_id == root.span.trace_id), "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_cannot_flood_the_collector() {
    const CALLS: u64 = 1_000;
    let collector = Collector::start().await;
    let node = node(|config| {
        config.traces.endpoint = Some(collector.endpoint.clone());
        config.traces.spans_per_s_max = 1;
    })
    .await;
    let client = of(&node);
    let sampled = Context::new().with_remote_span_context(caller(1, 1));
    for user in 0..CALLS {
        filter(&client, user).with_context(sampled.clone()).await;
    }
    node.stop().await.expect("it ends well");
    let spans = collector.spans().len() as u64;
    // The calls take seconds, and one pays for some of its own spans in advance.
    assert!((1..CALLS / 2).contains(&spans), "{spans} spans of {CALLS} calls");
    assert!(counted("seen_trace_calls_refused_total") > 0);
}

/// The log of this process.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_says_nothing_holds_nothing_up_and_is_named_once() {
    let lines = Lines::default();
    let log = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone());
    // Of all threads: it is another one that sends.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    // Connections wait to be accepted for ever.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let node = node(|config| {
        config.traces.endpoint = Some(endpoint.clone());
        config.traces.sample_ratio = 1.0;
        config.traces.timeout = Duration::from_millis(100);
        config.traces.queue_spans_max = 64;
    })
    .await;
    let client = of(&node);
    let lost = || {
        let of = |outcome| counted(&format!("seen_trace_spans_total{{outcome=\"{outcome}\"}}"));
        (of("failed"), of("dropped"))
    };
    let mut user = 0;
    let calls = async {
        // Several batches are given up, and more spans end than may wait.
        while lost().0 < 4 * 64 || lost().1 == 0 {
            filter(&client, user).await;
            user += 1;
        }
    };
    tokio::time::timeout(PATIENCE, calls).await.expect("spans are lost, and calls answered");
    node.stop().await.expect("it ends well, though nobody takes the last spans");
    let log = String::from_utf8(lines.0.lock().clone()).expect("text");
    let said =
        log.lines().filter(|line| line.contains("takes no spans") && line.contains(&endpoint));
    assert_eq!(said.count(), 1, "{log}");
}
