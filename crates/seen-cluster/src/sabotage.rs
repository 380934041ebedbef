//! A test-only switch that takes away the line which defends against one named bug, and only that. Without the `sabotage` feature
//! it compiles to nothing.
//!
//! It is one thread's: a simulated cluster lives in one thread, and others beside it keep all their lines.

#[cfg(feature = "sabotage")]
thread_local! {
    static TAKEN: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// True unless a test has taken this defence away.
#[cfg(feature = "sabotage")]
pub fn defends(bug: &'static str) -> bool {
    TAKEN.get() != Some(bug)
}

/// Always true outside of sabotage tests.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn defends(_bug: &'static str) -> bool {
    true
}

/// Takes one defence away from what this thread does from now on; `None` gives it back.
#[cfg(feature = "sabotage")]
pub fn take_away(bug: Option<&'static str>) {
    TAKEN.set(bug);
}

/// The defence that is taken away.
#[cfg(feature = "sabotage")]
pub fn taken() -> Option<&'static str> {
    TAKEN.get()
}
