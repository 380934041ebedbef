//! A service whose answers the test writes, reached over pipes in memory: so time can be paused.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use seen_client::{Client, ClientOptions, v1};
use seen_proto::status::{ApiError, ErrorKind, call_error};
use seen_proto::v1::seen_service_server::{SeenService, SeenServiceServer};
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// What to do with one call.
pub enum Reply<T> {
    Answer(T),
    Fail(Status),
    Hang,
}

/// One call as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived<M> {
    pub message: M,
    pub timeout: Option<String>,
    pub at: Instant,
}

/// The answers to come and the calls that came, for one kind of call. Without an answer a call hangs.
pub struct Script<M, T> {
    replies: Mutex<VecDeque<Reply<T>>>,
    arrived: Mutex<Vec<Arrived<M>>>,
}

impl<M, T> Default for Script<M, T> {
    fn default() -> Self {
        Self { replies: Mutex::default(), arrived: Mutex::default() }
    }
}

impl<M: Clone, T> Script<M, T> {
    pub fn then(&self, reply: Reply<T>) -> &Self {
        self.replies.lock().push_back(reply);
        self
    }

    pub fn fails(&self, kind: ErrorKind) -> &Self {
        self.then(Reply::Fail(ApiError::new(kind, format!("{kind:?}")).into()))
    }

    pub fn arrived(&self) -> Vec<Arrived<M>> {
        self.arrived.lock().clone()
    }

    async fn play(&self, request: Request<M>) -> Result<Response<T>, Status> {
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let message = request.into_inner();
        self.arrived.lock().push(Arrived { message, timeout, at: Instant::now() });
        let reply = self.replies.lock().pop_front();
        match reply {
            Some(Reply::Answer(answer)) => Ok(Response::new(answer)),
            Some(Reply::Fail(status)) => Err(status),
            Some(Reply::Hang) | None => std::future::pending().await,
        }
    }
}

/// What one question of a FilterStream is answered.
pub type FilterResult = v1::filter_stream_response::Result;

/// Answers a message of a stream; `None` = never.
type Handler<M, T> = Box<dyn Fn(&M) -> Option<T> + Send + Sync>;

/// The service.
#[derive(Default)]
pub struct Mock {
    pub filter: Script<v1::FilterRequest, v1::FilterResponse>,
    pub mark: Script<v1::MarkRequest, v1::MarkResponse>,
    pub unmark: Script<v1::UnmarkRequest, v1::UnmarkResponse>,
    pub forget: Script<v1::ForgetRequest, v1::ForgetResponse>,
    pub history: Script<v1::HistoryRequest, v1::HistoryResponse>,
    pub explain: Script<v1::ExplainRequest, v1::ExplainResponse>,
    pub on_filter: Mutex<Option<Handler<v1::FilterStreamRequest, FilterResult>>>,
    pub on_mark: Mutex<Option<Handler<v1::MarkRequest, v1::mark_stream_response::Result>>>,
    pub on_push: Mutex<Option<Handler<v1::FilterUsersRequest, v1::filter_users_response::Result>>>,
    pub filters: Mutex<Vec<Arrived<v1::FilterStreamRequest>>>,
    pub marks: Mutex<Vec<Arrived<v1::MarkStreamRequest>>>,
    pub pushes: Mutex<Vec<v1::FilterUsersRequest>>,
    /// How often a FilterStream or MarkStream was begun.
    pub streams: Mutex<u32>,
    /// The FilterStreams that are open, to answer over by hand.
    pub open: Mutex<Vec<mpsc::UnboundedSender<Result<v1::FilterStreamResponse, Status>>>>,
}

/// The service as it is served.
struct Served(Arc<Mock>);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SeenService for Served {
    type FilterStreamStream = Out<v1::FilterStreamResponse>;
    type FilterUsersStream = Out<v1::FilterUsersResponse>;
    type MarkStreamStream = Out<v1::MarkStreamResponse>;

    async fn filter(
        &self,
        request: Request<v1::FilterRequest>,
    ) -> Result<Response<v1::FilterResponse>, Status> {
        self.0.filter.play(request).await
    }

    async fn mark(
        &self,
        request: Request<v1::MarkRequest>,
    ) -> Result<Response<v1::MarkResponse>, Status> {
        self.0.mark.play(request).await
    }

    async fn unmark(
        &self,
        request: Request<v1::UnmarkRequest>,
    ) -> Result<Response<v1::UnmarkResponse>, Status> {
        self.0.unmark.play(request).await
    }

    async fn forget(
        &self,
        request: Request<v1::ForgetRequest>,
    ) -> Result<Response<v1::ForgetResponse>, Status> {
        self.0.forget.play(request).await
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        self.0.history.play(request).await
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        self.0.explain.play(request).await
    }

    async fn filter_stream(
        &self,
        request: Request<Streaming<v1::FilterStreamRequest>>,
    ) -> Result<Response<Self::FilterStreamStream>, Status> {
        *self.0.streams.lock() += 1;
        let (mock, mut questions) = (Arc::clone(&self.0), request.into_inner());
        let (out, answers) = mpsc::unbounded_channel();
        mock.open.lock().push(out.clone());
        tokio::spawn(async move {
            while let Ok(Some(message)) = questions.message().await {
                let result = mock.on_filter.lock().as_ref().and_then(|answer| answer(&message));
                let (request_id, at) = (message.request_id, Instant::now());
                mock.filters.lock().push(Arrived { message, timeout: None, at });
                if let Some(result) = result {
                    let answer = v1::FilterStreamResponse { request_id, result: Some(result) };
                    let _ = out.send(Ok(answer));
                }
            }
            // The caller has said everything: the stream ends, unless a test answers by hand.
            mock.open.lock().retain(|one| !one.same_channel(&out));
        });
        Ok(Response::new(UnboundedReceiverStream::new(answers).boxed()))
    }

    async fn filter_users(
        &self,
        request: Request<Streaming<v1::FilterUsersRequest>>,
    ) -> Result<Response<Self::FilterUsersStream>, Status> {
        let (mock, mut questions) = (Arc::clone(&self.0), request.into_inner());
        let (out, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut silent = false;
            while let Ok(Some(question)) = questions.message().await {
                let result = mock.on_push.lock().as_ref().and_then(|answer| answer(&question));
                silent |= result.is_none();
                if let Some(result) = result {
                    let request_id = question.request_id;
                    let answer = v1::FilterUsersResponse { request_id, result: Some(result) };
                    let _ = out.send(Ok(answer));
                }
                mock.pushes.lock().push(question);
            }
            if silent {
                // Somebody waits for an answer that never comes.
                out.closed().await;
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(answers).boxed()))
    }

    async fn mark_stream(
        &self,
        request: Request<Streaming<v1::MarkStreamRequest>>,
    ) -> Result<Response<Self::MarkStreamStream>, Status> {
        *self.0.streams.lock() += 1;
        let (mock, mut marks) = (Arc::clone(&self.0), request.into_inner());
        let (out, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(message)) = marks.message().await {
                let mark = message.mark.clone().expect("a mark");
                let result = mock.on_mark.lock().as_ref().and_then(|answer| answer(&mark));
                let (request_id, at) = (message.request_id, Instant::now());
                mock.marks.lock().push(Arrived { message, timeout: None, at });
                if let Some(result) = result {
                    let answer = v1::MarkStreamResponse { request_id, result: Some(result) };
                    let _ = out.send(Ok(answer));
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(answers).boxed()))
    }
}

/// An acknowledgement with this token.
pub fn acknowledged(token: &[u8]) -> v1::mark_stream_response::Result {
    v1::mark_stream_response::Result::Mark(v1::MarkResponse { token: token.to_vec() })
}

/// A refusal of one message.
pub fn refused(kind: ErrorKind) -> v1::mark_stream_response::Result {
    v1::mark_stream_response::Result::Error(call_error(ApiError::new(kind, format!("{kind:?}"))))
}

/// The service and the pipes to it.
#[derive(Clone, Default)]
pub struct Stage {
    pub mock: Arc<Mock>,
    pipes: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// While true no connection can be had.
    closed: Arc<Mutex<bool>>,
    /// While true nobody answers who wants to connect.
    unreachable: Arc<Mutex<bool>>,
    /// While true nothing gets through the pipes, and they stay open: a process that was stopped, or a
    /// network that swallows everything.
    stalled: Arc<watch::Sender<bool>>,
}

impl Stage {
    /// A client with these options, connected by a pipe.
    pub fn client(&self, options: ClientOptions) -> Client {
        let stage = self.clone();
        let connector = tower::service_fn(move |_| {
            let stage = stage.clone();
            async move {
                if *stage.unreachable.lock() {
                    std::future::pending::<()>().await;
                }
                stage.pipe().map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://mock:1").connect_with_connector_lazy(connector);
        Client::with_channels(vec![channel], options).expect("valid options")
    }

    fn pipe(&self) -> std::io::Result<DuplexStream> {
        if *self.closed.lock() {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (client, mut near) = duplex(64 << 10);
        let (mut far, server) = duplex(64 << 10);
        let service = SeenServiceServer::new(Served(Arc::clone(&self.mock)));
        let incoming = futures_util::stream::iter([Ok::<_, std::io::Error>(server)]);
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming.chain(futures_util::stream::pending())),
        );
        let mut stalled = self.stalled.subscribe();
        let copying = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = stalled.wait_for(|stalled| *stalled) => {}
                    _ = copy_bidirectional(&mut near, &mut far) => return,
                }
                let _ = stalled.wait_for(|stalled| !stalled).await;
            }
        });
        self.pipes.lock().push(copying);
        Ok(client)
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.pipes.lock().drain(..).for_each(|pipe| pipe.abort());
    }

    /// Lets no connection be had, or lets it again.
    pub fn close(&self, closed: bool) {
        *self.closed.lock() = closed;
    }

    /// Leaves whoever wants to connect without an answer, or no longer.
    pub fn disconnect(&self, unreachable: bool) {
        *self.unreachable.lock() = unreachable;
    }

    /// Lets nothing through from now on, or again.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Waits until a condition on the mock holds.
    pub async fn until(&self, holds: impl Fn(&Mock) -> bool) {
        // Time is paused: this only yields to the other tasks, and moves the clock by little.
        let waited = tokio::time::timeout(Duration::from_secs(600), async {
            while !holds(&self.mock) {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        });
        waited.await.expect("the condition comes to hold");
    }
}

/// Options without jittering surprises: the url is not used.
pub fn options() -> ClientOptions {
    ClientOptions::new("http://mock:1")
}
