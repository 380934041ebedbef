//! The hot calls, beneath tonic: read from HTTP/2's streams and answered into them, without a task for
//! each. A call whose message is there is asked at once; whoever answers writes the reply, from
//! whatever thread, and the connection sends it with all others that are there by then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use seen_api::meta::call_meta;
use seen_api::reply::unanswered;
use seen_api::{Call, Calls, Reply};
use seen_proto::status::ApiError;
use tonic::Status;
use tonic::metadata::GRPC_CONTENT_TYPE;

use super::connection::Asked;
use super::message::{MessageReader, PREFIX_BYTES, check_encoding};

/// How a call ends that went well.
const OK: HeaderValue = HeaderValue::from_static("0");

/// The hot call that a request is, if it is one; all others go through tonic.
pub(super) fn hot_call<B>(request: &Request<B>) -> Option<Call> {
    let call = match request.uri().path() {
        "/seen.v1.SeenService/Filter" => Call::Filter,
        "/seen.v1.SeenService/Mark" => Call::Mark,
        _ => return None,
    };
    (request.method() == Method::POST).then_some(call)
}

/// Asks at once if the whole message is there, and else once it has come.
pub(super) fn ask<C: Calls>(
    calls: &C,
    call: Call,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    asked: Asked,
    cx: &mut Context<'_>,
) {
    let reply = HotReply { respond: Some(respond), asked: Some(asked) };
    let (head, body) = request.into_parts();
    if let Err(status) = check_encoding(&head.headers) {
        return reply.refuse(status);
    }
    let mut reading = Reading { body, reader: MessageReader::default(), data_ended: false };
    match reading.poll(cx) {
        Poll::Ready(read) => finish(calls, call, head, read, reply),
        Poll::Pending => {
            let calls = calls.clone();
            tokio::spawn(async move {
                let read = std::future::poll_fn(|cx| reading.poll(cx)).await;
                finish(&calls, call, head, read, reply);
            });
        }
    }
}

fn finish<C: Calls>(
    calls: &C,
    call: Call,
    mut head: Parts,
    read: Result<Body, Unread>,
    mut reply: HotReply,
) {
    let body = match read {
        Ok(body) => body,
        Err(Unread::Refused(status)) => return reply.refuse(status),
        Err(Unread::Reset) => return reply.give_up(),
    };
    if let Some(trailers) = body.trailers {
        // As tonic does.
        head.headers.extend(trailers);
    }
    if call.writes() && reply.is_reset() {
        // Also a reset behind the whole request, which came while this process had something else to do: whoever sent it has
        // given up, and may write elsewhere what this would bring back (coherence row 38).
        return reply.give_up();
    }
    match call_meta(call, &head.headers) {
        Ok(meta) => {
            let reply = Box::new(reply);
            // A panic ends this call and not the connection, whose other calls have nothing to do with it. The
            // reply is dropped by it, and so tells the caller.
            let asked = AssertUnwindSafe(|| calls.call(call, &meta, body.message, reply));
            if catch_unwind(asked).is_err() {
                tracing::error!(call = call.label(), "a call panicked");
            }
        }
        Err(error) => {
            calls.refused(&error);
            Box::new(reply).send(Err(error));
        }
    }
}

/// What a request held.
struct Body {
    message: Bytes,
    trailers: Option<HeaderMap>,
}

/// Why a request was not read.
enum Unread {
    /// The caller is told why.
    Refused(Status),
    /// There is nobody to tell.
    Reset,
}

/// A request's body while it comes.
struct Reading {
    body: RecvStream,
    reader: MessageReader,
    data_ended: bool,
}

impl Reading {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, Unread>> {
        while !self.data_ended {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    // An error is that the stream is gone, which the next look shows.
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    if let Err(status) = self.reader.push(piece) {
                        return Poll::Ready(Err(Unread::Refused(status)));
                    }
                    if self.body.is_end_stream() {
                        return Poll::Ready(self.end(None));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Unread::Reset)),
                Poll::Ready(None) => self.data_ended = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.body.poll_trailers(cx) {
            Poll::Ready(Ok(trailers)) => Poll::Ready(self.end(trailers)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Unread::Reset)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Body, Unread> {
        let reader = std::mem::take(&mut self.reader);
        let message = reader.finish(trailers.is_some()).map_err(Unread::Refused)?;
        Ok(Body { message, trailers })
    }
}

/// Where the answer of one hot call goes: its stream. Both parts are there until it was answered.
struct HotReply {
    respond: Option<SendResponse<Bytes>>,
    asked: Option<Asked>,
}

impl HotReply {
    fn refuse(mut self, status: Status) {
        self.tell(Err(status));
    }

    /// True if the caller has reset the stream by now.
    fn is_reset(&mut self) -> bool {
        self.poll_abandoned(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Leaves the stream, which is gone.
    fn give_up(mut self) {
        self.respond = None;
    }

    fn tell(&mut self, answer: Result<Bytes, Status>) {
        let (Some(respond), Some(asked)) = (self.respond.take(), self.asked.take()) else { return };
        let sent = match answer {
            Ok(message) => send_message(respond, &message),
            Err(status) => send_status(respond, status),
        };
        match sent {
            Ok(()) => asked.answered(),
            // Reset meanwhile: it counts as cancelled.
            Err(error) => tracing::trace!(%error, "nobody waits for the answer"),
        }
    }
}

impl Reply for HotReply {
    fn send(mut self: Box<Self>, answer: Result<Bytes, ApiError>) {
        self.tell(answer.map_err(Status::from));
    }

    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.respond {
            // An error is that the connection is gone.
            Some(respond) => respond.poll_reset(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for HotReply {
    fn drop(&mut self) {
        // What it would say is made only where it is needed: nearly all are answered by now.
        if self.respond.is_some() {
            self.tell(Err(Status::from(unanswered())));
        }
    }
}

/// Queues the answer; what the client's windows do not allow yet waits in the stream.
fn send_message(mut respond: SendResponse<Bytes>, message: &[u8]) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    let mut stream = respond.send_response(head, false)?;
    let Ok(length) = u32::try_from(message.len()) else {
        stream.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    };
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    stream.send_data(framed.freeze(), false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, OK);
    stream.send_trailers(trailers)
}

/// Queues a refusal, which has no body: its trailers are its headers.
fn send_status(mut respond: SendResponse<Bytes>, status: Status) -> Result<(), h2::Error> {
    let head: Response<()> = status.into_http();
    respond.send_response(head, true).map(drop)
}
