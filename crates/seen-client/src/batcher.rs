//! Many marks over one stream, acknowledged one by one.

mod groups;
mod worker;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use seen_filter::settings::NAME_BYTES_MAX;
use seen_proto::limits::{MARK_ITEMS_MAX, MARKED_AT_MS_MAX};
use seen_proto::status::{ApiError, ErrorKind};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::options::{OptionsError, in_range, span_in_range};
use crate::session::Session;
use crate::write::MarkCall;

use groups::{Submission, Ticket};
use worker::Worker;

/// What one item takes in memory while it waits, in bytes: the item twice, as it is kept for another
/// attempt.
const ITEM_BYTES: usize = 2 * size_of::<seen_proto::v1::MarkItem>();
/// What one mark takes beside its items and its namespace's name, in bytes.
const MARK_BYTES: usize = 256;

/// Bounds of a [`MarkBatcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatcherOptions {
    /// Items that are not acknowledged yet, at least [`MARK_ITEMS_MAX`]. Default 65,536.
    pub items_max: usize,
    /// What they take in memory, in bytes, at least 1 MiB. Default 32 MiB.
    pub bytes_max: usize,
    /// So many waiting items are sent at once. Default 512.
    pub flush_items: usize,
    /// An item waits for others no longer than this. Default 2 ms.
    pub flush_after: Duration,
    /// Messages on the way, 1 to 4,096. A server reads 256 ahead. Default 256.
    pub messages_max: usize,
    /// How long a mark may take from when it is handed over, repeats included. Default 10 s.
    pub timeout: Duration,
    /// How long one attempt may take. Default 2 s.
    pub attempt_timeout: Duration,
    /// A stream is ended in peace and opened anew at this age, so that a server which drains, or which
    /// closes old connections, cuts none off in the middle, and load spreads. Default 15 s, less than
    /// `server.drain` and `server.connection_grace`.
    pub stream_age: Duration,
    /// How long [`MarkBatcher::close`] waits for acknowledgements. Default 10 s.
    pub close_timeout: Duration,
}

impl Default for BatcherOptions {
    fn default() -> Self {
        Self {
            items_max: 65_536,
            bytes_max: 32 << 20,
            flush_items: 512,
            flush_after: Duration::from_millis(2),
            messages_max: 256,
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(2),
            stream_age: Duration::from_secs(15),
            close_timeout: Duration::from_secs(10),
        }
    }
}

impl BatcherOptions {
    fn validate(&self) -> Result<(), OptionsError> {
        // Semaphores count up to 2^29 at least; what is far beyond memory is a mistake anyway.
        const MOST: usize = 1 << 29;
        in_range("items_max", self.items_max, MARK_ITEMS_MAX, MOST)?;
        in_range("bytes_max", self.bytes_max, 1 << 20, MOST)?;
        in_range("flush_items", self.flush_items, 1, self.items_max)?;
        in_range("messages_max", self.messages_max, 1, 4_096)?;
        if self.flush_after > Duration::from_secs(1) {
            let value = format!("{:?}", self.flush_after);
            return Err(OptionsError::new("flush_after", value, "at most 1 s"));
        }
        if self.stream_age < Duration::from_secs(1) {
            let value = format!("{:?}", self.stream_age);
            return Err(OptionsError::new("stream_age", value, "at least 1 s"));
        }
        span_in_range("timeout", self.timeout)?;
        span_in_range("attempt_timeout", self.attempt_timeout)?;
        span_in_range("close_timeout", self.close_timeout)
    }
}

/// Gathers marks, sends them over one stream and acknowledges each of them.
///
/// Marks of one session and namespace that wait at the same time travel as one message. What is not
/// acknowledged yet is bounded in items and in bytes; beyond it [`mark`](Self::mark) waits and
/// [`try_mark`](Self::try_mark) refuses. Dropping it lets what was handed over be sent still, for at
/// most `close_timeout`; [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct MarkBatcher {
    queue: mpsc::Sender<Submission>,
    items: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    options: BatcherOptions,
    worker: JoinHandle<()>,
}

/// The acknowledgement of one mark: ready once it is durable, or certainly or possibly is not.
#[derive(Debug)]
#[must_use = "a mark is durable only once its ticket says so"]
pub struct MarkTicket {
    outcome: oneshot::Receiver<Result<(), ApiError>>,
}

impl Future for MarkTicket {
    type Output = Result<(), ApiError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| {
            outcome.unwrap_or_else(|_| {
                let what = "the batcher ended before the mark was acknowledged; repeat it";
                Err(ApiError::new(ErrorKind::OutcomeUnknown, what))
            })
        })
    }
}

impl Client {
    /// A batcher over one of this client's connections. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The first option out of range.
    pub fn mark_batcher(&self, options: BatcherOptions) -> Result<MarkBatcher, OptionsError> {
        options.validate()?;
        // The semaphores are what bounds it: every submission holds a permit for each item.
        let (queue, submissions) = mpsc::channel(options.items_max);
        let worker = Worker::new(Arc::clone(&self.shared), options, submissions);
        Ok(MarkBatcher {
            queue,
            items: Arc::new(Semaphore::new(options.items_max)),
            bytes: Arc::new(Semaphore::new(options.bytes_max)),
            options,
            worker: tokio::spawn(worker.run()),
        })
    }
}

impl MarkBatcher {
    /// Hands a mark over, as soon as there is room for it.
    ///
    /// # Errors
    /// The mark is wrong, or its time ran out before there was room. Nothing was sent.
    pub async fn mark(&self, session: &Session, call: MarkCall) -> Result<MarkTicket, ApiError> {
        let (items, bytes) = size(&call)?;
        let deadline = self.deadline(&call);
        let room = async {
            let items = Arc::clone(&self.items).acquire_many_owned(items).await;
            let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
            (items, bytes)
        };
        match timeout_at(deadline, room).await {
            Ok((Ok(items), Ok(bytes))) => Ok(self.submit(session, call, deadline, (items, bytes))),
            _ => Err(self.full()),
        }
    }

    /// Hands a mark over, if there is room for it now.
    ///
    /// # Errors
    /// The mark is wrong, or there is no room ([`ErrorKind::Overloaded`]). Nothing was sent.
    pub fn try_mark(&self, session: &Session, call: MarkCall) -> Result<MarkTicket, ApiError> {
        let (items, bytes) = size(&call)?;
        let items = Arc::clone(&self.items).try_acquire_many_owned(items);
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        match (items, bytes) {
            (Ok(items), Ok(bytes)) => {
                let deadline = self.deadline(&call);
                Ok(self.submit(session, call, deadline, (items, bytes)))
            }
            _ => Err(self.full()),
        }
    }

    /// Items that are not acknowledged yet.
    pub fn pending_items(&self) -> usize {
        self.options.items_max - self.items.available_permits()
    }

    /// Sends what is left and waits until all of it is acknowledged or has failed, at most
    /// `close_timeout`.
    pub async fn close(self) {
        let Self { queue, worker, .. } = self;
        drop(queue);
        // An error means that the worker panicked; its tickets then say "outcome unknown".
        let _ = worker.await;
    }

    fn deadline(&self, call: &MarkCall) -> Instant {
        Instant::now() + call.timeout.unwrap_or(self.options.timeout)
    }

    fn submit(
        &self,
        session: &Session,
        call: MarkCall,
        deadline: Instant,
        room: groups::Room,
    ) -> MarkTicket {
        let (acknowledge, outcome) = oneshot::channel();
        let submission = Submission {
            session: session.clone(),
            namespace: call.request.namespace,
            items: call.request.items,
            ticket: Ticket { deadline, acknowledge, _room: room },
        };
        // It cannot be full, see above. Closed means that the worker is gone: the ticket is dropped
        // with the submission, and says so.
        let _ = self.queue.try_send(submission);
        MarkTicket { outcome }
    }

    fn full(&self) -> ApiError {
        let BatcherOptions { items_max, bytes_max, .. } = self.options;
        let what = format!(
            "{items_max} items or {bytes_max} bytes are not acknowledged yet; mark more slowly"
        );
        ApiError::new(ErrorKind::Overloaded, what)
    }
}

/// What a mark takes, in items and bytes. A wrong one is refused here, as its message may carry the
/// marks of others.
fn size(call: &MarkCall) -> Result<(u32, u32), ApiError> {
    let items = call.request.items.len();
    if items > MARK_ITEMS_MAX {
        let what = format!("{items} items; at most {MARK_ITEMS_MAX}; send several marks");
        return Err(ApiError::invalid("items", what));
    }
    let late = |time: &u64| *time > MARKED_AT_MS_MAX;
    let times = call.request.items.iter().enumerate();
    for (index, item) in times {
        if let Some(time) = item.marked_at_ms.filter(late) {
            let what = format!("{time}; at most {MARKED_AT_MS_MAX}, the end of the year 9999");
            return Err(ApiError::invalid(format!("items[{index}].marked_at_ms"), what));
        }
    }
    let namespace = &call.request.namespace;
    if namespace.is_empty() {
        return Err(ApiError::invalid("namespace", "empty; name the history to mark in"));
    }
    if namespace.len() > NAME_BYTES_MAX {
        return Err(ApiError::unknown_namespace(namespace));
    }
    let bytes = items * ITEM_BYTES + MARK_BYTES + 2 * namespace.len();
    // Both are bounded by the limits above.
    Ok((items as u32, bytes as u32))
}
