//! The operator's HTTP port over a real socket. Metrics are recorded for the whole process, so this
//! file holds one test.

use std::io::{self, Write};
use std::sync::mpsc;

use metrics::{counter, histogram};
use seen_server::config::LogConfig;
use seen_server::http::{Shown, serve};
use seen_server::metrics::CONNECTIONS_REFUSED;
use seen_server::readiness::Readiness;
use seen_server::shutdown::Stop;
use seen_server::telemetry::{Logs, MetricsHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A terminal that takes no line until its gate's other end is dropped.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        while self.0.recv().is_ok() {}
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log that has dropped lines.
fn stormed() -> (Logs, mpsc::Sender<()>) {
    let (gate, stuck) = mpsc::channel();
    let config = LogConfig { queue_lines_max: 64, ..LogConfig::default() };
    let (subscriber, logs) = Logs::build(&config, Stuck(stuck), false).expect("the level parses");
    tracing::subscriber::with_default(subscriber, || {
        (0..200).for_each(|line| tracing::info!(line, "storm"));
    });
    (logs, gate)
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("answered");
    reply
}

#[tokio::test]
async fn metrics_liveness_and_readiness_are_served_until_shutdown() {
    let (logs, gate) = stormed();
    let metrics = MetricsHandle::start(Some(logs.dropped())).expect("nobody else records here");
    assert!(MetricsHandle::start(None).is_err(), "a second recorder is refused");
    let readiness = Readiness::waiting_for(&["storage", "feed"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = Stop::default();
    let shown = Shown { metrics: metrics.clone(), readiness: readiness.clone() };
    let server = tokio::spawn(serve(listener, shown, stop.requested()));

    assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
    readiness.ready("feed");
    readiness.not_ready("storage", "disk is full");
    let reply = ask(address, "/readyz").await;
    assert!(
        reply.starts_with("HTTP/1.1 503") && reply.ends_with("\r\n\r\nstorage: disk is full\n")
    );
    readiness.ready("storage");
    assert!(ask(address, "/readyz").await.ends_with("\r\n\r\nready\n"));

    counter!(CONNECTIONS_REFUSED.name).increment(3);
    histogram!("seen_unregistered_seconds").record(0.09);
    let reply = ask(address, "/metrics").await;
    assert!(reply.contains("text/plain; version=0.0.4"), "{reply}");
    assert!(reply.contains("\nseen_connections_refused_total 3\n"), "{reply}");
    assert!(reply.contains("# HELP seen_connections_refused_total API connections"), "{reply}");
    assert!(reply.contains("seen_unregistered_seconds_bucket{le=\"0.09\"} 1"), "{reply}");
    assert!(reply.contains("seen_unregistered_seconds_bucket{le=\"0.05\"} 0"), "{reply}");

    let dropped = format!("\nseen_log_lines_dropped_total {}\n", logs.dropped().dropped_lines());
    assert!(logs.dropped().dropped_lines() >= 135 && reply.contains(&dropped), "{reply}");

    drop(gate);
    stop.request();
    server.await.expect("no panic").expect("a clean end");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}
