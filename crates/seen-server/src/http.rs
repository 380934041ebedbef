//! The operator's HTTP port: `/metrics`, `/livez`, `/readyz`.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use crate::readiness::Readiness;
use crate::telemetry::MetricsHandle;

/// How often histogram samples are folded into buckets while nobody scrapes.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);
/// The media type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the HTTP port shows.
#[derive(Clone)]
pub struct Shown {
    /// The metrics.
    pub metrics: MetricsHandle,
    /// The reasons for and against `/readyz`.
    pub readiness: Readiness,
}

/// Serves until `shutdown` ends, and then until the requests that were begun are answered. The
/// caller bounds that: dropping the future closes the port.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    shown: Shown,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let metrics = shown.metrics.clone();
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .with_state(shown);
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown);
    tokio::select! {
        ended = server => ended,
        never = fold(metrics) => match never {},
    }
}

async fn fold(metrics: MetricsHandle) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(FOLD_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.fold();
    }
}

async fn render(State(shown): State<Shown>) -> Response {
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], shown.metrics.render()).into_response()
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready(State(shown): State<Shown>) -> Response {
    let reasons = shown.readiness.reasons();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let lines: String =
        reasons.iter().map(|(part, reason)| format!("{part}: {reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}
