//! Sending a window: every mark until it is acknowledged, or can never be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::Counter;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::window::{Call, Window};
use super::{IngestOptions, MarkFailure, MarkSink};
use crate::sample::KafkaRecord;

/// Pause after a failure, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether to stop during a pause.
const LOOK: Duration = Duration::from_millis(50);

/// What came of a window.
#[derive(Debug)]
pub(super) struct Sent {
    /// False if it was to stop before everything was acknowledged.
    pub is_whole: bool,
    pub ends: BTreeMap<i32, i64>,
    pub messages: u64,
    pub items: u64,
    pub dead: Vec<(Arc<KafkaRecord>, &'static str)>,
}

/// Sends a window's marks, several at a time.
pub(super) async fn send(
    sink: Arc<dyn MarkSink>,
    options: Arc<IngestOptions>,
    mut window: Window,
    stopping: Arc<AtomicBool>,
    retries: Counter,
) -> Sent {
    let mut calls: VecDeque<Call> = window.take_calls().into();
    let mut sent = Sent {
        is_whole: true,
        items: window.items() as u64,
        ends: window.ends,
        messages: window.messages,
        dead: window.dead,
    };
    let mut running = JoinSet::new();
    let mut refused = BTreeSet::new();
    loop {
        while running.len() < options.calls_max
            && let Some(call) = calls.pop_front()
        {
            let (sink, stopping) = (Arc::clone(&sink), Arc::clone(&stopping));
            let retries = retries.clone();
            running.spawn(async move { one(&*sink, call, &stopping, &retries).await });
        }
        match running.join_next().await {
            None => return sent,
            Some(Ok(Ended::Written)) => {}
            // Somebody's message cannot be written: which one is found by sending each alone.
            Some(Ok(Ended::Refused(call))) if call.parts.len() > 1 => {
                calls.extend(call.parts.into_iter().map(Call::of));
            }
            Some(Ok(Ended::Refused(call))) => {
                for (message, mark) in call.parts {
                    sent.items = sent.items.saturating_sub(mark.items.len() as u64);
                    // A message may be many calls.
                    if refused.insert((message.partition, message.offset)) {
                        sent.dead.push((message, "refused"));
                    }
                }
            }
            Some(Ok(Ended::Stopped) | Err(_)) => sent.is_whole = false,
        }
    }
}

enum Ended {
    Written,
    Refused(Call),
    Stopped,
}

async fn one(sink: &dyn MarkSink, call: Call, stopping: &AtomicBool, retries: &Counter) -> Ended {
    let mut pause = PAUSE_MIN;
    loop {
        // What was not begun when it was to stop is not begun.
        if stopping.load(Ordering::Acquire) {
            return Ended::Stopped;
        }
        let Some(mark) = call.mark() else { return Ended::Written };
        let (user, namespace) = (mark.user, mark.namespace.clone());
        match sink.mark(mark).await {
            Ok(()) => return Ended::Written,
            Err(MarkFailure::Never(reason)) => {
                tracing::warn!(
                    namespace,
                    reason,
                    messages = call.parts.len(),
                    "a mark was refused"
                );
                return Ended::Refused(call);
            }
            Err(MarkFailure::Later(reason)) => {
                retries.increment(1);
                tracing::debug!(user, namespace, reason, "a mark is tried again");
                let mut slept = Duration::ZERO;
                while slept < pause && !stopping.load(Ordering::Acquire) {
                    let step = LOOK.min(pause - slept);
                    sleep(step).await;
                    slept += step;
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
