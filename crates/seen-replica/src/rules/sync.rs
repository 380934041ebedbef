//! The locks and shared numbers of the rules. With the feature `shuttle`, which only `tests/threads.rs` turns on, they are those of
//! a scheduler that tries in which order threads may take them.

#[cfg(not(feature = "shuttle"))]
pub(super) use parking_lot::{Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
pub(super) use shuttle::sync::MutexGuard;
#[cfg(feature = "shuttle")]
pub(super) use shuttle::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering,
};
#[cfg(not(feature = "shuttle"))]
pub(super) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering,
};

/// A lock that is used as that of `parking_lot`.
#[cfg(feature = "shuttle")]
#[derive(Debug, Default)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[cfg(feature = "shuttle")]
impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
