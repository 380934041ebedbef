//! A thread with a runtime of its own, as a serving thread is, and the processor time that it takes.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// One thread and its runtime.
pub struct Serving {
    pub handle: Handle,
    stat: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn start(name: &str) -> Self {
        let (tell, told) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let run = move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let own = fs::read_link("/proc/thread-self").expect("procfs");
            tell.send((runtime.handle().clone(), own)).expect("somebody waits");
            // An error is the owner's end as well.
            let _ = runtime.block_on(ended);
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let (handle, own) = told.recv().expect("it starts");
        let stat = PathBuf::from("/proc").join(own).join("schedstat");
        Self { handle, stat, end: Some(end), thread: Some(thread.expect("a thread")) }
    }

    /// Processor time that it has taken, in seconds.
    pub fn busy_s(&self) -> f64 {
        let stat = fs::read_to_string(&self.stat).expect("procfs");
        let ns = stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
        ns.expect("nanoseconds") / 1e9
    }

    /// Runs a task on it to its end.
    pub fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.handle.spawn(async move {
            let _ = tell.send(task.await);
        });
        told.recv().expect("no panic")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told when it came.
            let _ = thread.join();
        }
    }
}
