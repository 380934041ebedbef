//! What waits to be written. Whoever has something appends it to one growing buffer, under a short lock, and wakes the
//! writer only if that sleeps; the writer takes all there is at once. So what comes together is written together,
//! and nothing waits for a timer.

#[cfg(not(feature = "shuttle"))]
use parking_lot::{Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
use shuttle::sync::MutexGuard;
use tokio::sync::Notify;

#[cfg(feature = "shuttle")]
use threads::Mutex;

/// A buffer that grew beyond this is not kept once it is written.
const KEPT_BYTES_MAX: usize = 1_048_576;

pub(super) struct Outbox<T> {
    waiting: Mutex<Waiting<T>>,
    wake: Notify,
}

/// Behind the lock.
pub(super) struct Waiting<T> {
    /// What is to be written next.
    pub buffer: Vec<u8>,
    /// Bytes that the writer has taken and not written yet.
    writing: usize,
    /// True if the writer will look again by itself.
    armed: bool,
    /// What changes together with the buffer.
    pub extra: T,
}

impl<T> Waiting<T> {
    /// All bytes that are not written yet.
    pub fn bytes(&self) -> usize {
        self.buffer.len() + self.writing
    }
}

impl<T> Outbox<T> {
    pub fn new(extra: T) -> Self {
        let waiting = Waiting { buffer: Vec::new(), writing: 0, armed: false, extra };
        Self { waiting: Mutex::new(waiting), wake: Notify::new() }
    }

    /// Looks or changes, without waking the writer.
    pub fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock()
    }

    /// Appends, and wakes the writer if it sleeps.
    pub fn put<R>(&self, append: impl FnOnce(&mut Waiting<T>) -> R) -> R {
        let mut waiting = self.waiting.lock();
        let result = append(&mut waiting);
        let wake = !waiting.armed && !waiting.buffer.is_empty();
        waiting.armed |= wake;
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
        result
    }

    /// The writer is awake: nobody needs to wake it until it found nothing.
    pub fn arm(&self) {
        self.waiting.lock().armed = true;
    }

    /// Takes all that waits, after `last` had its say, in exchange for `spare`, whose content was written. If there is
    /// nothing the writer may sleep.
    pub fn take(&self, spare: &mut Vec<u8>, last: impl FnOnce(&mut Waiting<T>)) -> bool {
        spare.clear();
        if spare.capacity() > KEPT_BYTES_MAX {
            *spare = Vec::new();
        }
        let mut waiting = self.waiting.lock();
        last(&mut waiting);
        std::mem::swap(&mut waiting.buffer, spare);
        waiting.writing = spare.len();
        waiting.armed = !spare.is_empty();
        waiting.armed
    }

    /// Something was put since the writer slept.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Forgets what waits.
    pub fn clear(&self) -> MutexGuard<'_, Waiting<T>> {
        let mut waiting = self.waiting.lock();
        waiting.buffer = Vec::new();
        waiting.writing = 0;
        waiting.armed = false;
        waiting
    }
}

#[cfg(feature = "shuttle")]
mod threads;
