//! Who is to be woken when what is on its way arrives: one task and one timer for the whole network. With a timer in each socket
//! every reader would run twice for what it reads, the first time only to learn when to come back.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::pipe::Pipe;

#[derive(Default)]
struct Inner {
    by_time: BTreeMap<Instant, Vec<Weak<Pipe>>>,
    ringer: Option<Waker>,
}

/// When something arrives, and where.
#[derive(Default)]
pub(super) struct Bells(Mutex<Inner>);

impl Bells {
    /// Wakes whoever reads from this pipe, once it is `due`.
    pub fn set(&self, due: Instant, pipe: &Arc<Pipe>) {
        let mut inner = self.0.lock();
        let is_first = inner.by_time.first_key_value().is_none_or(|(first, _)| due < *first);
        inner.by_time.entry(due).or_default().push(Arc::downgrade(pipe));
        let ringer = if is_first { inner.ringer.take() } else { None };
        drop(inner);
        if let Some(ringer) = ringer {
            ringer.wake();
        }
    }

    /// Rings them, for good.
    pub async fn ring(&self) {
        let mut timer = pin!(sleep_until(Instant::now()));
        let ring = |cx: &mut Context<'_>| {
            while let Some(next) = self.ring_due(Instant::now(), cx) {
                if timer.deadline() != next {
                    timer.as_mut().reset(next);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            Poll::<()>::Pending
        };
        poll_fn(ring).await;
    }

    /// Rings what is due by now, and gives the time of what comes next.
    fn ring_due(&self, now: Instant, cx: &Context<'_>) -> Option<Instant> {
        let mut inner = self.0.lock();
        while let Some(first) = inner.by_time.first_entry().filter(|first| *first.key() <= now) {
            let pipes = first.remove();
            drop(inner);
            pipes.iter().filter_map(Weak::upgrade).for_each(|pipe| pipe.wake_reader());
            inner = self.0.lock();
        }
        if !inner.ringer.as_ref().is_some_and(|ringer| ringer.will_wake(cx.waker())) {
            inner.ringer = Some(cx.waker().clone());
        }
        inner.by_time.keys().next().copied()
    }
}
