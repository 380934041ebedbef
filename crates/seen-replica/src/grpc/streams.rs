//! The streams: many questions over one call, answered in any order. A slow reader is not read from
//! any further, so that it costs bounded memory.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body::Body as HttpBody;
use seen_filter::Tick;
use seen_proto::limits::MESSAGE_BYTES_MAX;
use seen_proto::model::PushCall;
use seen_proto::status::{ApiError, call_error};
use seen_proto::v1;
use seen_proto::wire::{StreamCall, encode_stream_answer, encode_stream_error};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{Answer, RawCodec};
use crate::replica::Replica;
use crate::service::Handled;

/// Questions of one stream that wait for storage at once.
const WAITING_MAX: usize = 256;
/// Messages of FilterUsers answered at once.
const PUSHES_MAX: usize = 2;
/// Answers that wait for their reader; one more and the stream is not read from any further.
const ANSWERS_QUEUED_MAX: usize = 64;

/// An answer that storage is asked for, as the stream's message.
type Later = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// Either kind of hot handler.
type Handle = fn(&Arc<Replica>, &StreamCall<'_>, &mut Vec<u8>) -> Result<Handled, ApiError>;

fn filter(
    replica: &Arc<Replica>,
    envelope: &StreamCall<'_>,
    out: &mut Vec<u8>,
) -> Result<Handled, ApiError> {
    let deadline = deadline(replica, envelope)?;
    replica.filter(&envelope.filter()?, deadline, out)
}

fn mark(
    replica: &Arc<Replica>,
    envelope: &StreamCall<'_>,
    out: &mut Vec<u8>,
) -> Result<Handled, ApiError> {
    let deadline = deadline(replica, envelope)?;
    replica.mark(&envelope.mark()?, deadline, out)
}

fn deadline(replica: &Replica, envelope: &StreamCall<'_>) -> Result<Tick, ApiError> {
    let us = u64::from(envelope.timeout_ms()?) * 1_000;
    Ok(replica.ticker().now().plus_us(us))
}

pub(super) fn filter_stream<B>(replica: Arc<Replica>, request: Request<B>) -> Answer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    hot_stream(replica, filter, request)
}

pub(super) fn mark_stream<B>(replica: Arc<Replica>, request: Request<B>) -> Answer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    hot_stream(replica, mark, request)
}

fn hot_stream<B>(replica: Arc<Replica>, handle: Handle, request: Request<B>) -> Answer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let serve = service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
        let (answers, reader) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let stream = HotStream { replica: Arc::clone(&replica), handle, answers };
        tokio::spawn(stream.run(request.into_inner()));
        std::future::ready(Ok(tonic::Response::new(ReceiverStream::new(reader))))
    });
    Box::pin(async move {
        let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(grpc.streaming(serve, request).await)
    })
}

/// One stream of Filter or Mark.
struct HotStream {
    replica: Arc<Replica>,
    handle: Handle,
    answers: mpsc::Sender<Result<Bytes, Status>>,
}

impl HotStream {
    /// Runs until the caller has said everything and was answered, or is gone.
    async fn run(self, mut questions: Streaming<Bytes>) {
        let _running = self.replica.running();
        let mut waiting: FuturesUnordered<Later> = FuturesUnordered::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            let answer = tokio::select! {
                biased;
                Some(answer) = waiting.next() => Ok(Some(answer)),
                question = questions.message(), if open && waiting.len() < WAITING_MAX => {
                    match question {
                        Ok(Some(raw)) => self.question(&raw, &mut waiting),
                        Ok(None) => {
                            open = false;
                            Ok(None)
                        }
                        Err(status) => Err(status),
                    }
                }
            };
            let (message, last) = match answer {
                Ok(None) => continue,
                Ok(Some(answer)) => (Ok(answer), false),
                Err(status) => (Err(status), true),
            };
            // An error here means that the reader is gone.
            if self.answers.send(message).await.is_err() || last {
                return;
            }
        }
    }

    /// Answers one question now, or later.
    fn question(
        &self,
        raw: &Bytes,
        waiting: &mut FuturesUnordered<Later>,
    ) -> Result<Option<Bytes>, Status> {
        // Without an id there is nobody to answer: the stream ends.
        let envelope =
            StreamCall::parse(raw).map_err(|error| self.replica.refuse(ApiError::from(error)))?;
        let id = envelope.request_id;
        let mut answer = Vec::new();
        match (self.handle)(&self.replica, &envelope, &mut answer) {
            Ok(Handled::Written) => Ok(Some(answered(id, &answer))),
            Ok(Handled::Pending(pending)) => {
                let replica = Arc::clone(&self.replica);
                waiting.push(Box::pin(async move {
                    match pending.await {
                        Ok(answer) => answered(id, &answer),
                        Err(error) => failed(&replica, id, error),
                    }
                }));
                Ok(None)
            }
            Err(error) => Ok(Some(failed(&self.replica, id, error))),
        }
    }
}

fn answered(id: u64, answer: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(answer.len() + 16);
    encode_stream_answer(&mut out, id, answer);
    Bytes::from(out)
}

fn failed(replica: &Replica, id: u64, error: ApiError) -> Bytes {
    replica.metrics.error(error.kind);
    let mut out = Vec::new();
    encode_stream_error(&mut out, id, &call_error(error));
    Bytes::from(out)
}

pub(super) fn filter_users<B>(replica: Arc<Replica>, request: Request<B>) -> Answer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let serve = service_fn(move |request: tonic::Request<Streaming<v1::FilterUsersRequest>>| {
        let (answers, reader) = mpsc::channel(PUSHES_MAX);
        tokio::spawn(push(Arc::clone(&replica), request.into_inner(), answers));
        std::future::ready(Ok(tonic::Response::new(ReceiverStream::new(reader))))
    });
    Box::pin(async move {
        let mut grpc =
            Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(grpc.streaming(serve, request).await)
    })
}

async fn push(
    replica: Arc<Replica>,
    mut questions: Streaming<v1::FilterUsersRequest>,
    answers: mpsc::Sender<Result<v1::FilterUsersResponse, Status>>,
) {
    let _running = replica.running();
    let mut waiting = FuturesUnordered::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        let answer = tokio::select! {
            biased;
            Some(answer) = waiting.next() => Ok(answer),
            question = questions.message(), if open && waiting.len() < PUSHES_MAX => {
                match question {
                    Ok(Some(question)) => {
                        waiting.push(push_one(Arc::clone(&replica), question));
                        continue;
                    }
                    Ok(None) => {
                        open = false;
                        continue;
                    }
                    Err(status) => Err(status),
                }
            }
        };
        let last = answer.is_err();
        if answers.send(answer).await.is_err() || last {
            return;
        }
    }
}

async fn push_one(
    replica: Arc<Replica>,
    question: v1::FilterUsersRequest,
) -> v1::FilterUsersResponse {
    use v1::filter_users_response::Result as Answer;
    let request_id = question.request_id;
    let answer = async { replica.filter_users(PushCall::try_from(question)?).await };
    let result = match answer.await {
        Ok(users) => Answer::Users(users),
        Err(error) => {
            replica.metrics.error(error.kind);
            Answer::Error(call_error(error))
        }
    };
    v1::FilterUsersResponse { request_id, result: Some(result) }
}
