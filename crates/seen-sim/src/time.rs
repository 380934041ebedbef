//! The time that all processes share.
//!
//! Where every process runs in one runtime, that is the runtime's clock. Where each has a runtime of its own (as hosts of
//! `turmoil` do), their clocks go alike but began at different moments, and an [`Instant`] of one says nothing to another: what
//! is compared between processes is then told by a clock that whoever plays the seed gives to its thread.

use std::cell::RefCell;

use tokio::time::Instant;

type Tells = Box<dyn Fn() -> Instant>;

thread_local! {
    static SHARED: RefCell<Option<Tells>> = const { RefCell::new(None) };
}

/// Now, as all processes of this thread's seed have it.
pub fn now() -> Instant {
    SHARED.with_borrow(|shared| shared.as_ref().map_or_else(Instant::now, |tells| tells()))
}

/// Gives the thread back to its runtime's clock when it is dropped.
#[derive(Debug)]
pub struct Shared(());

impl Drop for Shared {
    fn drop(&mut self) {
        SHARED.set(None);
    }
}

/// From now on, until what it returns is dropped, this thread's processes have the time from `tells`.
pub fn share(tells: impl Fn() -> Instant + 'static) -> Shared {
    SHARED.set(Some(Box::new(tells)));
    Shared(())
}
