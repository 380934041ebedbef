//! The gRPC service over whatever answers calls. Every message stays as it came: whoever answers reads
//! it, a proxy only in part.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use seen_proto::limits::MESSAGE_BYTES_MAX;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tower::{Service, service_fn};

use crate::calls::{Call, Calls};
use crate::codec::RawCodec;
use crate::meta::call_meta;
use crate::{reply, streams};

/// The public service. Cheap to clone: one for each connection.
#[derive(Clone, Debug)]
pub struct SeenGrpc<C> {
    calls: C,
}

impl<C> NamedService for SeenGrpc<C> {
    const NAME: &'static str = "seen.v1.SeenService";
}

/// An answer on its way.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<C: Calls> SeenGrpc<C> {
    /// The service of whoever answers.
    pub fn new(calls: C) -> Self {
        Self { calls }
    }

    fn unary<B>(&self, call: Call, request: Request<B>) -> Answer
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let calls = self.calls.clone();
        let ask = service_fn(move |request: tonic::Request<Bytes>| {
            let (reply, answer) = reply::awaited();
            match call_meta(call, request.metadata().as_ref()) {
                Ok(meta) => calls.call(call, &meta, request.into_inner(), reply),
                Err(error) => {
                    calls.refused(&error);
                    reply.send(Err(error));
                }
            }
            async { answer.await.map(tonic::Response::new).map_err(Status::from) }
        });
        Box::pin(async move {
            let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(ask, request).await)
        })
    }
}

impl<C, B> Service<Request<B>> for SeenGrpc<C>
where
    C: Calls,
    B: HttpBody + Send + 'static,
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
        let call = match name {
            "Filter" => Call::Filter,
            "Mark" => Call::Mark,
            "Unmark" => Call::Unmark,
            "Forget" => Call::Forget,
            "History" => Call::History,
            "Explain" => Call::Explain,
            "FilterStream" => return streams::hot(self.calls.clone(), Call::Filter, request),
            "MarkStream" => return streams::hot(self.calls.clone(), Call::Mark, request),
            "FilterUsers" => return streams::users(self.calls.clone(), request),
            _ => return Box::pin(async { Ok(Status::unimplemented("no such call").into_http()) }),
        };
        self.unary(call, request)
    }
}
