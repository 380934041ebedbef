//! An OpenTelemetry collector that keeps what it is sent.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span, and what its process says about itself.
#[derive(Clone, Debug)]
pub struct Kept {
    pub service: String,
    pub role: String,
    pub span: Span,
}

impl Kept {
    /// What an attribute says, as text.
    pub fn says(&self, key: &str) -> String {
        said(&self.span.attributes, key)
    }
}

/// A collector that runs until the test ends.
#[derive(Clone)]
pub struct Collector {
    pub endpoint: String,
    kept: Arc<Mutex<Vec<Kept>>>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let collector = Self { endpoint, kept: Arc::default() };
        let service = TraceServiceServer::new(collector.clone());
        let incoming = TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(async move { server.serve_with_incoming(incoming).await });
        collector
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Kept> {
        self.kept.lock().clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_process in request.into_inner().resource_spans {
            let about = of_process.resource.map(|about| about.attributes).unwrap_or_default();
            let (service, role) = (said(&about, "service.name"), said(&about, "seen.role"));
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let kept =
                spans.map(|span| Kept { service: service.clone(), role: role.clone(), span });
            self.kept.lock().extend(kept);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn said(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|one| one.key == key);
    match found.and_then(|one| one.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}
