//! The handlers as a gRPC service. The hot calls (Filter, Mark and their streams) go through a raw
//! codec to the walker; all others through prost into validated calls.

mod admin;
mod codec;
mod deadline;
mod streams;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use seen_proto::limits::{FORGET_TIMEOUT_MS_DEFAULT, MESSAGE_BYTES_MAX, TIMEOUT_MS_DEFAULT};
use seen_proto::model::{ExplainCall, ForgetCall, HistoryCall, UnmarkCall};
use seen_proto::status::ApiError;
use seen_proto::v1;
use seen_proto::wire::{FilterCall, MarkCall};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Status, metadata::MetadataMap};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

pub use admin::{AdminGrpc, DrainHook};
pub use codec::RawCodec;

use crate::replica::{Replica, Running};
use crate::service::Handled;
use deadline::deadline;

/// Bytes set aside for a reply of Filter.
const REPLY_BYTES: usize = 1_024;

/// The public service. Cheap to clone: one for each connection.
#[derive(Clone)]
pub struct SeenGrpc {
    replica: Arc<Replica>,
}

impl NamedService for SeenGrpc {
    const NAME: &'static str = "seen.v1.SeenService";
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl SeenGrpc {
    /// The service of one replica.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self { replica }
    }

    fn raw<F>(
        &self,
        handle: F,
    ) -> impl FnMut(tonic::Request<Bytes>) -> RawFuture + Send + Clone + 'static
    where
        F: Fn(&Arc<Replica>, &MetadataMap, &Bytes, &mut Vec<u8>) -> Result<Handled, ApiError>
            + Send
            + Copy
            + 'static,
    {
        let replica = Arc::clone(&self.replica);
        move |request: tonic::Request<Bytes>| {
            let mut out = Vec::with_capacity(REPLY_BYTES);
            let handled = handle(&replica, request.metadata(), request.get_ref(), &mut out);
            match handled {
                Ok(Handled::Written) => RawFuture::Ready(Some(Ok(Bytes::from(out)))),
                Ok(Handled::Pending(pending)) => RawFuture::Pending {
                    pending,
                    replica: Arc::clone(&replica),
                    _running: replica.running(),
                },
                Err(error) => RawFuture::Ready(Some(Err(replica.refuse(error)))),
            }
        }
    }
}

impl Replica {
    /// Counts an error and turns it into what the caller gets.
    pub(crate) fn refuse(&self, error: ApiError) -> Status {
        self.metrics.error(error.kind);
        Status::from(error)
    }
}

type Pending = Pin<Box<dyn Future<Output = Result<Bytes, ApiError>> + Send>>;

/// The answer to a raw call: there already, or on its way from storage.
enum RawFuture {
    Ready(Option<Result<Bytes, Status>>),
    Pending { pending: Pending, replica: Arc<Replica>, _running: Running },
}

impl Future for RawFuture {
    type Output = Result<tonic::Response<Bytes>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(answer) => {
                let polled_again = || Err(Status::internal("answered twice; report this"));
                let answer = answer.take().unwrap_or_else(polled_again);
                Poll::Ready(answer.map(tonic::Response::new))
            }
            Self::Pending { pending, replica, .. } => pending
                .as_mut()
                .poll(cx)
                .map(|answer| answer.map(tonic::Response::new).map_err(|e| replica.refuse(e))),
        }
    }
}

fn filter(
    replica: &Arc<Replica>,
    metadata: &MetadataMap,
    raw: &Bytes,
    out: &mut Vec<u8>,
) -> Result<Handled, ApiError> {
    let deadline = deadline(metadata, replica.ticker().now(), TIMEOUT_MS_DEFAULT)?;
    let call = FilterCall::parse(raw)?;
    replica.filter(&call, deadline, out)
}

fn mark(
    replica: &Arc<Replica>,
    metadata: &MetadataMap,
    raw: &Bytes,
    out: &mut Vec<u8>,
) -> Result<Handled, ApiError> {
    let deadline = deadline(metadata, replica.ticker().now(), TIMEOUT_MS_DEFAULT)?;
    let call = MarkCall::parse(raw)?;
    replica.mark(&call, deadline, out)
}

/// One unary call with messages: the request is validated, the handler runs, errors are counted.
macro_rules! unary {
    ($self:ident, $request:ident, $message:ty => $call:ty, $default_ms:expr, $handler:ident) => {{
        let replica = Arc::clone(&$self.replica);
        let handle = service_fn(move |request: tonic::Request<$message>| {
            let replica = Arc::clone(&replica);
            async move {
                let _running = replica.running();
                let answer: Result<_, ApiError> = async {
                    let now = replica.ticker().now();
                    let deadline = deadline(request.metadata(), now, $default_ms)?;
                    replica.$handler(<$call>::try_from(request.into_inner())?, deadline).await
                }
                .await;
                answer.map(tonic::Response::new).map_err(|error| replica.refuse(error))
            }
        });
        Box::pin(async move {
            let mut grpc =
                Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(handle, $request).await)
        })
    }};
}

impl<B> Service<Request<B>> for SeenGrpc
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let name = request.uri().path().strip_prefix("/seen.v1.SeenService/").unwrap_or_default();
        match name {
            "Filter" => raw_unary(self.raw(filter), request),
            "Mark" => raw_unary(self.raw(mark), request),
            "FilterStream" => streams::filter_stream(Arc::clone(&self.replica), request),
            "MarkStream" => streams::mark_stream(Arc::clone(&self.replica), request),
            "FilterUsers" => streams::filter_users(Arc::clone(&self.replica), request),
            "Unmark" => {
                unary!(self, request, v1::UnmarkRequest => UnmarkCall, TIMEOUT_MS_DEFAULT, unmark)
            }
            "Forget" => {
                unary!(self, request, v1::ForgetRequest => ForgetCall, FORGET_TIMEOUT_MS_DEFAULT, forget)
            }
            "History" => {
                unary!(self, request, v1::HistoryRequest => HistoryCall, TIMEOUT_MS_DEFAULT, history)
            }
            "Explain" => {
                unary!(self, request, v1::ExplainRequest => ExplainCall, TIMEOUT_MS_DEFAULT, explain)
            }
            _ => Box::pin(async { Ok(Status::unimplemented("no such call").into_http()) }),
        }
    }
}

fn raw_unary<B>(
    handle: impl FnMut(tonic::Request<Bytes>) -> RawFuture + Send + Clone + 'static,
    request: Request<B>,
) -> Answer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    Box::pin(async move {
        let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(grpc.unary(service_fn(handle), request).await)
    })
}
