//! All calls but the hot ones: each a task that asks the service beneath which they come, tonic's
//! router, and carries its answer's body to the stream.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame};
use tower::{Service, ServiceExt};

use super::connection::Asked;

/// Why a body or a service failed.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request, read from its stream.
#[derive(Debug)]
pub struct RequestBody {
    stream: RecvStream,
    data_ended: bool,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    // An error is that the stream is gone, which the next look shows.
                    let _ = self.stream.flow_control().release_capacity(piece.len());
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(end_or_error(error)),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(end_or_error(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A reset without an error says that the rest is not needed (RFC 9113, section 8.1): it ends the body.
fn end_or_error<T>(error: h2::Error) -> Option<Result<T, h2::Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
}

/// Asks the service and carries its answer, unless the client resets the stream.
pub(super) async fn ask<S, B>(
    service: S,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    asked: Asked,
) where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let request = request.map(|stream| RequestBody { stream, data_ended: false });
    let mut reply = pin!(service.oneshot(request));
    // The reset first: what came behind a whole request says that its caller has given up, before anything is done.
    let reply = poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => reply.as_mut().poll(cx).map(Some),
    });
    let reply = match reply.await {
        None => return,
        Some(reply) => reply,
    };
    asked.answered();
    let (mut head, body) = match reply {
        Ok(reply) => reply.into_parts(),
        Err(error) => {
            let error: BoxError = error.into();
            tracing::warn!(%error, "a service failed");
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    let empty = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !empty) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let sent = match respond.send_response(Response::from_parts(head, ()), empty) {
        Ok(stream) if !empty => carry(body, stream).await,
        Ok(_) => Ok(()),
        Err(error) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Err(error)
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was cut off");
    }
}

/// Carries a body to its stream, as fast as the client's windows allow.
async fn carry<B>(body: B, mut stream: SendStream<Bytes>) -> Result<(), h2::Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| {
            // Looked at first, so that a reset wakes this task while it waits for the body.
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
            }
            body.as_mut().poll_frame(cx).map(Ok)
        });
        let frame = match frame.await? {
            None => return stream.send_data(Bytes::new(), true),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let error: BoxError = error.into();
                tracing::debug!(%error, "a body failed");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if data.has_remaining() {
                    has_room(&mut stream).await?;
                }
                stream.send_data(data, last)?;
                if last {
                    return Ok(());
                }
                continue;
            }
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            return stream.send_trailers(trailers);
        }
    }
}

/// Waits until the client takes at least one byte more, or resets the stream.
async fn has_room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    // No more than that, or else streams that wait would keep the connection's window from others.
    stream.reserve_capacity(1);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
            }
            if stream.capacity() > 0 {
                return Poll::Ready(Ok(()));
            }
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            }
        }
    })
    .await
}
