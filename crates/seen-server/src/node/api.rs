//! The ports' services: the API on the serving threads; admin and HTTP on the control runtime.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use seen_api::{Calls, SeenGrpc};
use seen_proto::FILE_DESCRIPTOR_SET;
use seen_proto::limits::MESSAGE_BYTES_MAX;
use seen_proto::v1;
use seen_proto::v1::admin_service_server::{AdminService, AdminServiceServer};
use seen_replica::grpc::AdminGrpc;
use seen_replica::{Replica, ReplicaCalls};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

use super::{NodeError, tls};
use crate::config::Config;
use crate::http::{self as http_port, Shown};
use crate::readiness::Readiness;
use crate::serving::{Front, RequestBody, Served, ServingOptions, ThreadIndex};
use crate::shutdown::Stop;
use crate::telemetry::MetricsHandle;

/// How often readiness is compared with the truth.
const READINESS_EVERY: Duration = Duration::from_millis(20);

/// The API's service, whoever answers.
const SEEN_SERVICE: &str = SeenGrpc::<ReplicaCalls>::NAME;
/// What the API's port lists.
const API_SERVICES: [&str; 2] = [SEEN_SERVICE, "grpc.health.v1.Health"];
/// What the operator's port lists.
const ADMIN_SERVICES: [&str; 1] = ["seen.v1.AdminService"];

/// The API on one serving thread.
#[derive(Clone)]
pub(crate) struct Api<C> {
    calls: C,
    /// Health and reflection.
    routes: Routes,
}

impl<C: Calls> Served for Api<C> {
    type Calls = C;
    type Others = Others<C>;
    type Body = Body;

    fn calls(&self) -> &C {
        &self.calls
    }

    fn others(&self) -> Others<C> {
        Others { seen: SeenGrpc::new(self.calls.clone()), routes: self.routes.clone() }
    }
}

/// All requests but the hot calls.
pub(crate) struct Others<C> {
    seen: SeenGrpc<C>,
    routes: Routes,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<C: Calls> Service<Request<RequestBody>> for Others<C> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Answer {
        let service = request.uri().path().trim_start_matches('/').split('/').next();
        if service == Some(SEEN_SERVICE) {
            return self.seen.call(request);
        }
        Box::pin(self.routes.call(request.map(Body::new)))
    }
}

/// Starts the serving threads, each with a service of its own: whoever answers its calls is made in its runtime.
pub(crate) async fn front<C: Calls>(
    config: &Config,
    calls: impl Fn(ThreadIndex) -> C + Send + Sync + 'static,
) -> Result<(Front, HealthReporter), NodeError> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    // Until everything is ready, which [`watch_readiness`] tells.
    tell_health(&health_reporter, false).await;
    let routes = Routes::new(health).add_service(reflection(&API_SERVICES)?).prepare();
    let options = ServingOptions::from(&config.server);
    let make = move |thread| Api { calls: calls(thread), routes: routes.clone() };
    let tls = tls::api(&config.tls)?;
    let front = Front::start_with_tls(options, tls, make).await?;
    Ok((front, health_reporter))
}

/// Says by the health protocol whether requests are wanted: of the service, and of the whole server.
async fn tell_health(health: &HealthReporter, wanted: bool) {
    let status = if wanted { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", SEEN_SERVICE] {
        health.set_service_status(service, status).await;
    }
}

/// Reflection, so that grpcurl works without files.
///
/// # Errors
/// If the compiled-in descriptors do not parse, which a test rules out.
fn reflection(
    services: &[&'static str],
) -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
    NodeError,
> {
    // Named one by one: a port lists what it serves, and no more.
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    services
        .iter()
        .fold(builder, |builder, service| builder.with_service_name(*service))
        .build_v1()
        .map_err(|error| NodeError::Reflection(error.to_string()))
}

/// What the admin port steers.
#[derive(Clone)]
pub(super) struct Admin {
    pub replica: Arc<Replica>,
    pub readiness: Readiness,
    pub stop: Stop,
    /// Its place in a cluster, where it has one.
    pub place: Option<PlaceHook>,
}

/// Tells a process's place in its cluster.
pub(super) type PlaceHook = Arc<dyn Fn() -> v1::ClusterStatus + Send + Sync>;

/// Serves the operator's port until it is dropped: it answers Status while the process drains.
pub(super) fn admin_port(
    listener: TcpListener,
    admin: Admin,
) -> Result<impl Future<Output = ()> + Send, NodeError> {
    let Admin { replica, readiness, stop, place } = admin;
    let drain = move |timeout: Option<Duration>| {
        readiness.not_ready("drain", "draining");
        stop.request_within(timeout);
    };
    let service = AdminGrpc::new(replica, env!("CARGO_PKG_VERSION"), Arc::new(drain));
    serve_admin(listener, service.placed(place))
}

/// Serves an operator's service until it is dropped.
///
/// # Errors
/// If the compiled-in descriptors do not parse, which a test rules out.
pub(crate) fn serve_admin(
    listener: TcpListener,
    service: impl AdminService,
) -> Result<impl Future<Output = ()> + Send, NodeError> {
    let reflection = reflection(&ADMIN_SERVICES)?;
    let admin = AdminServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let served = tonic::transport::Server::builder()
        .add_service(admin)
        .add_service(reflection)
        .serve_with_incoming(TcpListenerStream::new(listener));
    Ok(async move {
        if let Err(error) = served.await {
            tracing::error!(error = %error, "the admin port failed");
        }
    })
}

/// Serves /metrics, /livez and /readyz until it is dropped.
pub(crate) async fn serve_http(
    listener: TcpListener,
    metrics: MetricsHandle,
    readiness: Readiness,
) {
    let shown = Shown { metrics, readiness };
    // Open to the end, so that /readyz can say that the process drains.
    if let Err(error) = http_port::serve(listener, shown, std::future::pending()).await {
        tracing::error!(error = %error, "the HTTP port failed");
    }
}

/// Keeps readiness true to what `look` finds, and health to readiness, until it is to stop.
pub(crate) async fn watch_readiness(
    look: impl Fn(&Readiness) + Send,
    readiness: Readiness,
    health: HealthReporter,
    stop: Stop,
) {
    let mut looks = tokio::time::interval(READINESS_EVERY);
    let mut told = false;
    while !stop.is_requested() {
        looks.tick().await;
        look(&readiness);
        let ready = readiness.is_ready();
        if ready != told {
            tell_health(&health, ready).await;
            told = ready;
        }
    }
    readiness.not_ready("drain", "draining");
    tell_health(&health, false).await;
}

/// Users are cached only once their partition has begun. A partition that cannot be opened is not waited for, nor is one that
/// a later map of slots brings.
pub(super) fn look_at_feed(replica: &Replica, readiness: &Readiness) {
    if replica.tried_all() {
        readiness.ready("feed");
    }
}
