//! The runtimes beside the serving threads: one for storage and feeds, one that accepts and
//! supervises. Each is entered by bounded channels, so that none can starve another.

use std::io;
use std::ops::Deref;

use tokio::runtime::{Builder, Runtime};

/// Most threads for blocking calls (file system) of one runtime.
const BLOCKING_THREADS_MAX: usize = 16;
/// Threads of callers.
const CALLER_THREADS: usize = 4;

/// The runtime of storage and feeds. Ends in the background when it is dropped: a runtime may not be
/// waited for within another, as a start that fails half-way would.
#[derive(Debug)]
pub struct StorageRuntime(Option<Runtime>);

impl StorageRuntime {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(threads: u16) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(usize::from(threads.max(1)))
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("seen-storage")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }
}

impl Deref for StorageRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        match &self.0 {
            Some(runtime) => runtime,
            None => unreachable!("it is taken out by its drop alone"),
        }
    }
}

impl Drop for StorageRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The runtime of a drill's callers, who have to keep up with what they try.
///
/// # Errors
/// The operating system refuses a thread.
pub fn callers() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(CALLER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("seen-callers")
        .enable_all()
        .build()
}

/// The runtime of the main thread: accepts connections, serves the operator's and the admin port,
/// listens for signals. One thread of its own, so that it answers while the others are busy.
///
/// # Errors
/// The operating system refuses a thread.
pub fn control() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("seen-control")
        .enable_all()
        .build()
}
