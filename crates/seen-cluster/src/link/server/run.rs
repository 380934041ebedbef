//! The task of one connection: it reads, has requests answered one after the other, and writes what was answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::{self, LinkLane};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::replies::Replies;
use super::{Incoming, LinkService, ServerOptions};
use crate::link::assembly::Assembly;
use crate::link::clock::OwnClock;
use crate::link::frame::{Batch, Frame, FrameKind, FrameReader, put_frame};
use crate::link::message::{REQUEST_BYTES_MAX, RequestHead, put_clock};
use crate::link::metrics::{End, OpenMetrics};
use crate::link::socket::{Socket, read_frame, read_some, write};
use crate::link::{Cut, LinkError, control, transfer};

/// After so many requests what was answered is written, though more came with them.
const REQUESTS_PER_WRITE: u64 = 16;
/// How often the clock is told, at least. Between two times it is reckoned on, which makes a request look older than it is by a
/// thousandth of the time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer than a lane for Filters the others may be silent: whether a replica lives is told by the former, and nobody
/// looks for it here.
const QUIET_LANE_LIFE: u32 = 10;
/// Least credit that is granted: the longest request can be sent, and a few others meanwhile.
const CREDIT_BYTES_MIN: u64 = 4 * REQUEST_BYTES_MAX as u64;
/// Most credit that is granted: what is given back at once fits its frame.
const CREDIT_BYTES_MAX: u64 = u32::MAX as u64;

/// Says hello, and serves.
pub(super) async fn run<S: LinkService>(
    mut stream: impl Socket,
    service: &S,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Cut {
    let mut reader = FrameReader::default();
    tokio::pin!(shutdown);
    let limit = options.hello_timeout;
    let clock = OwnClock::begin(Instant::now());
    let hearing = hear_hello(&mut stream, &mut reader, service, (options, clock));
    let hello = tokio::select! {
        biased;
        () = &mut shutdown => return Cut::Drained,
        hello = timeout(limit, hearing) => hello,
    };
    let (lane, credit_bytes) = match hello {
        Err(_) => return Cut::Late { what: "the hello", limit },
        Ok(Err(cut)) => return cut,
        Ok(Ok(heard)) => heard,
    };
    let metrics = OpenMetrics::new(End::Server, lane);
    if lane == LinkLane::Transfer {
        let conversation =
            transfer::serve(&mut stream, &mut reader, service, options.write_timeout, &metrics);
        return tokio::select! {
            biased;
            () = &mut shutdown => Cut::Drained,
            cut = conversation => cut,
        };
    }
    let mut connection = Connection {
        replies: Replies::new(options.buffer_bytes_max),
        stream,
        reader,
        service,
        options,
        lane,
        credit_bytes,
        taken: 0,
        metrics,
        requests: Assembly::new(REQUEST_BYTES_MAX),
        buffer: Vec::new(),
        handled: 0,
        wrote: Instant::now(),
        life_interval: match lane {
            LinkLane::Push => options.life_interval * QUIET_LANE_LIFE,
            _ => options.life_interval,
        },
        clock,
        clock_told: Instant::now(),
        ends: None,
    };
    connection.run(shutdown).await
}

/// Hears a hello and answers it. Gives the lane and the credit granted.
async fn hear_hello<S: LinkService>(
    stream: &mut impl Socket,
    reader: &mut FrameReader,
    service: &S,
    (options, clock): (&ServerOptions, OwnClock),
) -> Result<(LinkLane, u64), Cut> {
    let (kind, payload) = read_frame(stream, reader).await?;
    if kind != FrameKind::Hello {
        return Err(LinkError::Unexpected { kind, when: "before a hello" }.into());
    }
    if reader.has_more()? {
        return Err(LinkError::Unexpected { kind, when: "and more before the welcome" }.into());
    }
    let hello = control::hello(payload)?;
    let mut out = Vec::new();
    match service.welcome(&hello) {
        Ok(welcome) => {
            let credit_bytes = welcome.credit_bytes.clamp(CREDIT_BYTES_MIN, CREDIT_BYTES_MAX);
            let state = Some(welcome.state.unwrap_or_else(|| service.state()));
            let welcome = v1::LinkWelcome { credit_bytes, state, ..welcome };
            control::put_welcome(&mut out, &welcome);
            let lane = LinkLane::try_from(hello.lane).unwrap_or(LinkLane::Unspecified);
            if lane != LinkLane::Transfer {
                put_clock(&mut out, clock.us(Instant::now()));
            }
            write(stream, &out, options.write_timeout).await?;
            Ok((lane, credit_bytes))
        }
        Err(refusal) => {
            control::put_refusal(&mut out, &refusal);
            write(stream, &out, options.write_timeout).await?;
            Err(Cut::Refused(Box::new(refusal)))
        }
    }
}

struct Connection<'a, T, S> {
    stream: T,
    reader: FrameReader,
    service: &'a S,
    options: &'a ServerOptions,
    lane: LinkLane,
    /// Bytes of requests that were granted.
    credit_bytes: u64,
    /// Bytes of requests that were read and not given back.
    taken: u64,
    metrics: OpenMetrics,
    requests: Assembly<RequestHead>,
    replies: Arc<Replies>,
    /// What is being written.
    buffer: Vec<u8>,
    /// Requests since the last write.
    handled: u64,
    /// When anything was written last.
    wrote: Instant,
    /// After how long without anything a sign of life is written.
    life_interval: Duration,
    /// What requests say when they were sent by.
    clock: OwnClock,
    clock_told: Instant,
    /// When the connection ends, once goodbye was said.
    ends: Option<Instant>,
}

impl<T, S> Drop for Connection<'_, T, S> {
    fn drop(&mut self) {
        // Whoever answers later need not, and what it says is not kept.
        self.replies.out.clear().extra.closed = true;
    }
}

/// What the task does next.
enum Next {
    Read(Result<(), Cut>),
    Shutdown,
    Changed,
    Timer,
    Woken,
}

impl<T: AsyncRead + AsyncWrite + Unpin, S: LinkService> Connection<'_, T, S> {
    async fn run(
        &mut self,
        mut shutdown: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Cut {
        let mut changes = self.service.changes();
        let mut watched = true;
        let replies = self.replies.clone();
        // Looked at when it fires, and not set anew with each write.
        let timer = sleep_until(self.wrote + self.life_interval);
        let woken = replies.out.woken();
        tokio::pin!(timer, woken);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut shutdown, if self.ends.is_none() => Next::Shutdown,
                changed = changes.changed(), if watched => {
                    watched = changed.is_ok();
                    Next::Changed
                }
                () = &mut timer => Next::Timer,
                () = &mut woken => Next::Woken,
                read = read_some(&mut self.stream, &mut self.reader) => Next::Read(read),
            };
            let done = match next {
                Next::Read(read) => match read {
                    Ok(()) => self.take().await,
                    Err(cut) => Err(cut),
                },
                Next::Shutdown => {
                    self.say_goodbye();
                    Ok(())
                }
                Next::Changed => {
                    self.tell_state();
                    Ok(())
                }
                Next::Timer => self.look_at_clock(timer.as_mut()),
                Next::Woken => {
                    woken.set(replies.out.woken());
                    Ok(())
                }
            };
            if let Err(cut) = done {
                return cut;
            }
            if let Err(cut) = self.write().await {
                return cut;
            }
        }
    }

    /// Has all requests answered that came together.
    async fn take(&mut self) -> Result<(), Cut> {
        let read_at = Instant::now();
        let mut batch: Batch = self.reader.batch();
        self.metrics.bytes_in.increment(batch.len() as u64);
        // What is answered at once is written below, and need not wake this task.
        self.replies.out.arm();
        while let Some(frame) = batch.frame()? {
            self.request(&frame, read_at)?;
            if self.handled >= REQUESTS_PER_WRITE {
                self.write().await?;
                self.replies.out.arm();
            }
        }
        Ok(())
    }

    fn request(&mut self, frame: &Frame<'_>, read_at: Instant) -> Result<(), LinkError> {
        if frame.kind != FrameKind::Request {
            return Err(LinkError::Unexpected { kind: frame.kind, when: "after the welcome" });
        }
        let (head, body) = RequestHead::read(frame.payload)?;
        let Some((head, body, bytes)) = self.requests.take(head, body, frame)? else {
            return Ok(());
        };
        self.handled += 1;
        self.taken += bytes as u64;
        if self.taken > self.credit_bytes {
            return Err(LinkError::Credit { bytes: self.taken, granted: self.credit_bytes });
        }
        let replier = self.replies.replier(head.id, bytes as u32);
        // The clock is read for each one: the process may have been stopped since the one before.
        let now = Instant::now();
        let deadline = read_at + Duration::from_micros(head.timeout_us.into());
        if deadline <= now {
            self.metrics.expired.increment(1);
            let message = "the time that the sender allowed was over when it was this request's turn; nothing was done";
            replier.error(ApiError::new(ErrorKind::DeadlineExceeded, message));
            return Ok(());
        }
        let sent = self.clock.moment(head.sent_us, now)?;
        let waits_until = sent.map(|sent| sent + Duration::from_micros(head.timeout_us.into()));
        let incoming = Incoming {
            id: head.id,
            call: head.call,
            lane: self.lane,
            epoch: head.epoch,
            flags: head.flags.of_caller(),
            moved: head.moved,
            trace: head.trace,
            now,
            deadline,
            waits_until: waits_until.map_or(deadline, |until| until.min(deadline)),
            body,
        };
        self.service.handle(incoming, replier);
        Ok(())
    }

    fn tell_state(&self) {
        let state = self.service.state();
        let mut waiting = self.replies.out.lock();
        control::put_state(&mut waiting.buffer, &state);
    }

    fn tell_clock(&mut self, now: Instant) {
        self.clock_told = now;
        put_clock(&mut self.replies.out.lock().buffer, self.clock.us(now));
    }

    fn say_goodbye(&mut self) {
        self.ends = Some(Instant::now() + self.options.drain_timeout);
        self.tell_state();
        put_frame(&mut self.replies.out.lock().buffer, FrameKind::Goodbye, |_| ());
    }

    fn look_at_clock(
        &mut self,
        mut timer: std::pin::Pin<&mut tokio::time::Sleep>,
    ) -> Result<(), Cut> {
        let now = Instant::now();
        if self.ends.is_some_and(|ends| ends <= now) {
            let limit = self.options.drain_timeout;
            return Err(Cut::Late { what: "what was under way at the goodbye", limit });
        }
        let mut due = self.wrote + self.life_interval;
        let silent = due <= now;
        if silent {
            self.tell_state();
            due = now + self.life_interval;
        }
        if silent || self.clock_told + CLOCK_INTERVAL <= now {
            self.tell_clock(now);
        }
        timer.as_mut().reset(self.ends.map_or(due, |ends| due.min(ends)));
        Ok(())
    }

    /// Writes all that waits.
    async fn write(&mut self) -> Result<(), Cut> {
        let taken = &mut self.taken;
        while self
            .replies
            .out
            .take(&mut self.buffer, |waiting| *taken -= Replies::give_back(waiting).min(*taken))
        {
            let written = tokio::select! {
                biased;
                written = write(&mut self.stream, &self.buffer, self.options.write_timeout) => written,
                () = self.replies.overflowed.notified() => Ok(()),
            };
            written?;
            self.metrics.writes.increment(1);
            self.metrics.bytes_out.increment(self.buffer.len() as u64);
            self.wrote = Instant::now();
        }
        self.metrics.requests.increment(std::mem::take(&mut self.handled));
        if let Some(bytes) = self.replies.out.lock().extra.overflow {
            let bytes_max = self.options.buffer_bytes_max;
            return Err(Cut::Unread { bytes, bytes_max });
        }
        Ok(())
    }
}
