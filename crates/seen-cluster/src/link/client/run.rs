//! The tasks of a [`LinkClient`](super::LinkClient): one connects and reads, one writes.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seen_proto::v1::LinkLane;
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Connector, Grant, Opened, Phase, Shared, open};
use crate::link::assembly::{Assembly, Whole};
use crate::link::frame::{Batch, FrameKind, FrameReader};
use crate::link::message::{REPLY_BYTES_MAX, ReplyHead, read_clock, read_credit};
use crate::link::metrics::{End, OpenMetrics, ended};
use crate::link::socket::{Socket, read_some, write};
use crate::link::{Answer, Cut, LinkChange, LinkError, LinkEvents, control, decoder};
use crate::sabotage::defends;

/// How often at most a sign of life is told.
const LIFE_INTERVAL: Duration = Duration::from_millis(1);
/// Longest reply that is copied.
const COPIED_BYTES_MAX: usize = 512;

/// Connects, and connects again.
pub(super) async fn run(
    shared: Arc<Shared>,
    connector: impl Connector,
    events: Arc<dyn LinkEvents>,
) {
    let options = &shared.options;
    // Differs between processes, and between what one of them connects to.
    let hello = (options.hello)();
    let jitter = BuildHasherDefault::<DefaultHasher>::default();
    let seed = jitter.hash_one((hello.incarnation, hello.lane, &options.address));
    let mut pause = options.backoff_min;
    for attempt in 0_u64.. {
        let begun = Instant::now();
        let cut = match open(&connector, options).await {
            Err(cut) => cut,
            Ok(opened) => serve(&shared, &*events, opened).await,
        };
        ended(End::Client, &cut);
        if let Cut::Refused(refusal) = &cut {
            events.changed(LinkChange::Refused((**refusal).clone()));
        }
        events.changed(LinkChange::Down(cut.to_string()));
        if !defends("link.reopen") {
            return;
        }
        // One that held for a while is worth another try at once; a replica that welcomes and then closes is not.
        if begun.elapsed() > options.backoff_max {
            pause = options.backoff_min;
        }
        let share = (jitter.hash_one((seed, attempt)) % 1_024) as u32;
        sleep(pause / 2 + pause / 2 * share / 1_024).await;
        pause = (pause * 2).min(options.backoff_max);
    }
}

/// Ends the writer with whoever waits for it.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs an open connection until it ends.
async fn serve(shared: &Arc<Shared>, events: &dyn LinkEvents, opened: Opened) -> Cut {
    let Opened { stream, reader, hello, identity, state, credit_bytes } = opened;
    let lane = LinkLane::try_from(hello.lane).unwrap_or(LinkLane::Unspecified);
    let metrics = Arc::new(OpenMetrics::new(End::Client, lane));
    let (from, to) = split(stream);
    let (phase, credit, granted) = (Phase::Open, credit_bytes, credit_bytes);
    shared.out.clear().extra = Grant { phase, credit, granted, ..Grant::default() };
    let mut writer = tokio::spawn(write_all(shared.clone(), to, metrics.clone()));
    let _ends = Ends(writer.abort_handle());
    events.changed(LinkChange::Up { identity, state, credit_bytes });
    let mut reading = Reading {
        shared,
        events,
        reader,
        replies: Assembly::new(REPLY_BYTES_MAX),
        heard: Instant::now(),
        told: Instant::now(),
        drained: false,
    };
    let (cut, writes) = tokio::select! {
        biased;
        cut = reading.run(from, &metrics) => (cut, true),
        written = &mut writer => {
            (written.unwrap_or(Cut::Closed("while it was written to")), false)
        }
    };
    if writes {
        // Only when it is gone for certain may another one take what waits.
        writer.abort();
        drop(writer.await);
    }
    // From here on nothing is taken: whoever is told Down knows all that is lost.
    shared.out.clear().extra = Grant::default();
    cut
}

/// Writes what waits, all there is at a time, without a timer.
async fn write_all(
    shared: Arc<Shared>,
    mut to: WriteHalf<Box<dyn Socket>>,
    metrics: Arc<OpenMetrics>,
) -> Cut {
    // On several threads a woken task may run at once, before whoever woke it has put the rest of what came together.
    let yields = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
    let mut buffer = Vec::new();
    loop {
        shared.out.woken().await;
        if yields {
            tokio::task::yield_now().await;
        }
        let mut requests = 0;
        while shared.out.take(&mut buffer, |waiting| {
            requests = std::mem::take(&mut waiting.extra.requests);
        }) {
            if let Err(cut) = write(&mut to, &buffer, shared.options.write_timeout).await {
                return cut;
            }
            metrics.requests.increment(requests);
            metrics.writes.increment(1);
            metrics.bytes_out.increment(buffer.len() as u64);
        }
    }
}

/// What the reader knows. It never waits for anything but the socket: whoever sends to the other end may wait for
/// it to read, and that for this end.
struct Reading<'a> {
    shared: &'a Shared,
    events: &'a dyn LinkEvents,
    reader: FrameReader,
    replies: Assembly<ReplyHead>,
    /// When anything came last.
    heard: Instant,
    /// When that was told last.
    told: Instant,
    /// True if nothing more will come.
    drained: bool,
}

impl Reading<'_> {
    async fn run(&mut self, mut from: ReadHalf<Box<dyn Socket>>, metrics: &OpenMetrics) -> Cut {
        let limit = self.shared.options.silence_timeout;
        // Looked at when it fires, and not set anew with each read.
        let silence = sleep_until(self.heard + limit);
        tokio::pin!(silence);
        loop {
            let batch = self.reader.batch();
            metrics.bytes_in.increment(batch.len() as u64);
            if let Err(error) = self.take(batch) {
                return error.into();
            }
            if self.drained {
                return Cut::Drained;
            }
            let read = tokio::select! {
                biased;
                read = read_some(&mut from, &mut self.reader) => read,
                () = &mut silence => {
                    if self.heard + limit <= Instant::now() {
                        return Cut::Late { what: "any sign of life", limit };
                    }
                    silence.as_mut().reset(self.heard + limit);
                    continue;
                }
            };
            if let Err(cut) = read {
                return cut;
            }
        }
    }

    fn take(&mut self, mut batch: Batch) -> Result<(), LinkError> {
        if batch.is_empty() {
            // Part of a frame, or what is none at all.
            return batch.frame().map(drop);
        }
        let mut credit = 0;
        let mut draining = false;
        while let Some(frame) = batch.frame()? {
            match frame.kind {
                FrameKind::Reply => {
                    let (head, body) = ReplyHead::read(frame.payload)?;
                    if let Some((head, body, _)) = self.replies.take(head, body, &frame)? {
                        self.events.answered(head.id, answer(head, &body)?);
                    }
                }
                FrameKind::Credit => credit += u64::from(read_credit(frame.payload)?),
                FrameKind::State => {
                    self.events.changed(LinkChange::State(control::state(frame.payload_bytes())?));
                }
                FrameKind::Goodbye => draining = true,
                FrameKind::Clock => {
                    let us = read_clock(frame.payload)?;
                    self.shared.out.lock().extra.clock.hear(us, Instant::now());
                }
                kind => return Err(LinkError::Unexpected { kind, when: "after the welcome" }),
            }
        }
        self.settle(credit, draining)?;
        self.heard = Instant::now();
        if self.heard.duration_since(self.told) >= LIFE_INTERVAL {
            self.told = self.heard;
            self.events.changed(LinkChange::Life);
        }
        Ok(())
    }

    /// Takes the credit that came back.
    fn settle(&mut self, credit: u64, draining: bool) -> Result<(), LinkError> {
        let mut waiting = self.shared.out.lock();
        let grant = &mut waiting.extra;
        grant.credit += credit;
        if grant.credit > grant.granted {
            return Err(LinkError::Credit { bytes: grant.credit, granted: grant.granted });
        }
        let begins = draining && grant.phase == Phase::Open;
        if begins {
            grant.phase = Phase::Draining;
        }
        // All that was sent is answered, and nothing more may be sent.
        self.drained = grant.phase == Phase::Draining && grant.credit == grant.granted;
        drop(waiting);
        if begins {
            self.events.changed(LinkChange::Draining);
        }
        Ok(())
    }
}

/// The answer in a reply. A short one is copied: it would keep all that came with it in memory.
fn answer(head: ReplyHead, body: &Whole<'_>) -> Result<Answer, LinkError> {
    let body = match body {
        Whole::Framed { body, .. } if body.len() <= COPIED_BYTES_MAX => {
            Bytes::copy_from_slice(body)
        }
        body => body.to_bytes(),
    };
    decoder::answer(head, body)
}
