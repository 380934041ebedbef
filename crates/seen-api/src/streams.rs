//! The streams: many questions over one call, answered in any order. A slow reader is not read from
//! any further, so that it costs bounded memory.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body::Body as HttpBody;
use seen_proto::limits::MESSAGE_BYTES_MAX;
use seen_proto::status::{ApiError, call_error};
use seen_proto::v1;
use seen_proto::wire::{PushHead, StreamCall, encode_stream_answer, encode_stream_error};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tower::service_fn;

use crate::calls::{Call, CallMeta, Calls};
use crate::codec::RawCodec;
use crate::grpc::Answer;
use crate::{meta, reply};

/// Questions of one hot stream that wait for their answers at once.
const WAITING_MAX: usize = 256;
/// Messages of FilterUsers answered at once.
const PUSHES_MAX: usize = 2;
/// Answers that wait for their reader; one more and the stream is not read from any further.
const ANSWERS_QUEUED_MAX: usize = 64;

/// FilterStream or MarkStream: questions in envelopes, each of this call.
pub(crate) fn hot<C, B>(calls: C, call: Call, request: Request<B>) -> Answer
where
    C: Calls,
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    stream(calls, Hot { call }, ANSWERS_QUEUED_MAX, request)
}

/// FilterUsers: every message is a question by itself.
pub(crate) fn users<C, B>(calls: C, request: Request<B>) -> Answer
where
    C: Calls,
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    stream(calls, Users, PUSHES_MAX, request)
}

/// What a question's answer becomes on the stream; an error ends it.
type Said = Result<Bytes, Status>;
/// An answer that is not there yet.
type Later = Pin<Box<dyn Future<Output = Said> + Send>>;

/// One question, taken out of its envelope.
struct Question {
    meta: CallMeta,
    body: Bytes,
}

/// What the kinds of streams differ in.
trait Kind: Send + Sync + 'static {
    /// Under which an answer goes back.
    type Head: Send + 'static;
    /// Most questions at once.
    const WAITING_MAX: usize;

    /// What is asked.
    fn call(&self) -> Call;

    /// Takes a message's head; without it there is nobody to answer, and the stream ends.
    fn head(&self, raw: &Bytes) -> Result<Self::Head, ApiError>;

    /// Takes the question out.
    fn question(&self, raw: &Bytes, stream: &CallMeta) -> Result<Question, ApiError>;

    /// The answer as a message of the stream.
    fn said(head: Self::Head, answer: Result<Bytes, ApiError>) -> Said;
}

/// FilterStream and MarkStream.
struct Hot {
    call: Call,
}

impl Kind for Hot {
    type Head = u64;
    const WAITING_MAX: usize = WAITING_MAX;

    fn call(&self) -> Call {
        self.call
    }

    fn head(&self, raw: &Bytes) -> Result<u64, ApiError> {
        Ok(StreamCall::parse(raw)?.request_id)
    }

    fn question(&self, raw: &Bytes, stream: &CallMeta) -> Result<Question, ApiError> {
        let envelope = StreamCall::parse(raw)?;
        let timeout_us = u64::from(envelope.timeout_ms()?) * 1_000;
        let inside = match self.call {
            Call::Mark => envelope.mark_bytes()?,
            _ => envelope.filter_bytes()?,
        };
        Ok(Question {
            meta: CallMeta { timeout_us, ..stream.clone() },
            body: raw.slice_ref(inside),
        })
    }

    fn said(id: u64, answer: Result<Bytes, ApiError>) -> Said {
        let mut out = Vec::new();
        match answer {
            Ok(answer) => {
                out.reserve_exact(answer.len() + 16);
                encode_stream_answer(&mut out, id, &answer);
            }
            Err(error) => encode_stream_error(&mut out, id, &call_error(error)),
        }
        Ok(Bytes::from(out))
    }
}

/// FilterUsers.
struct Users;

impl Kind for Users {
    type Head = u64;
    const WAITING_MAX: usize = PUSHES_MAX;

    fn call(&self) -> Call {
        Call::FilterUsers
    }

    fn head(&self, raw: &Bytes) -> Result<u64, ApiError> {
        Ok(PushHead::parse(raw)?.request_id)
    }

    fn question(&self, raw: &Bytes, stream: &CallMeta) -> Result<Question, ApiError> {
        // One that is out of range is refused by whoever answers.
        let timeout_us = u64::from(PushHead::parse(raw)?.timeout_ms()) * 1_000;
        Ok(Question { meta: CallMeta { timeout_us, ..stream.clone() }, body: raw.clone() })
    }

    fn said(request_id: u64, answer: Result<Bytes, ApiError>) -> Said {
        use v1::filter_users_response::Result as Outcome;
        answer.or_else(|error| {
            let result = Some(Outcome::Error(call_error(error)));
            Ok(seen_proto::message::encode(&v1::FilterUsersResponse { request_id, result }))
        })
    }
}

fn stream<C, K, B>(calls: C, kind: K, queued_max: usize, request: Request<B>) -> Answer
where
    C: Calls,
    K: Kind,
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let kind = Arc::new(kind);
    let serve = service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
        let headers = request.metadata().as_ref();
        let tag = match meta::tag(headers) {
            Ok(tag) => tag,
            Err(error) => {
                calls.refused(&error);
                return ready(Err(Status::from(error)));
            }
        };
        let meta = CallMeta { timeout_us: 0, tag, trace: meta::trace(headers) };
        let (answers, reader) = mpsc::channel(queued_max);
        let running = Running { calls: calls.clone(), kind: Arc::clone(&kind), meta, answers };
        tokio::spawn(running.run(request.into_inner()));
        ready(Ok(tonic::Response::new(ReceiverStream::new(reader))))
    });
    Box::pin(async move {
        let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(grpc.streaming(serve, request).await)
    })
}

/// One stream.
struct Running<C, K> {
    calls: C,
    kind: Arc<K>,
    /// What its headers say; the time allowed comes with each message.
    meta: CallMeta,
    answers: mpsc::Sender<Said>,
}

impl<C: Calls, K: Kind> Running<C, K> {
    /// Runs until the caller has said everything and was answered, or is gone.
    async fn run(self, mut questions: Streaming<Bytes>) {
        let _running = self.calls.stream_begins();
        let mut waiting: FuturesUnordered<Later> = FuturesUnordered::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            let answer = tokio::select! {
                biased;
                Some(answer) = waiting.next() => Some(answer),
                question = questions.message(), if open && waiting.len() < K::WAITING_MAX => {
                    match question {
                        Ok(Some(raw)) => self.ask(&raw, &mut waiting),
                        Ok(None) => {
                            open = false;
                            None
                        }
                        Err(status) => Some(Err(status)),
                    }
                }
            };
            let Some(answer) = answer else { continue };
            let last = answer.is_err();
            // An error here means that the reader is gone.
            if self.answers.send(answer).await.is_err() || last {
                return;
            }
        }
    }

    /// Asks one question, which is answered now or later.
    fn ask(&self, raw: &Bytes, waiting: &mut FuturesUnordered<Later>) -> Option<Said> {
        let refused = |error: ApiError| {
            self.calls.refused(&error);
            error
        };
        let head = match self.kind.head(raw) {
            Ok(head) => head,
            Err(error) => return Some(Err(Status::from(refused(error)))),
        };
        let Question { meta, body } = match self.kind.question(raw, &self.meta) {
            Ok(question) => question,
            Err(error) => return Some(K::said(head, Err(refused(error)))),
        };
        let (reply, mut answer) = reply::awaited();
        self.calls.call(self.kind.call(), &meta, body, reply);
        if let Some(answer) = answer.try_take() {
            return Some(K::said(head, answer));
        }
        waiting.push(Box::pin(async move { K::said(head, answer.await) }));
        None
    }
}
