//! A process of the simulated cluster: what may be frozen, and what ends with it.
//!
//! Everything runs in one runtime. A process stands still where it meets the rest of the world: its own tasks are not
//! polled, its sockets give and take nothing, and storage neither hears of it nor answers. A process that is killed stands
//! still for good, and its sockets are closed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// A machine, by its number: what the network knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u16);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Runs,
    Frozen,
    Dead,
}

#[derive(Debug, Default)]
struct Inner {
    mode: Mode,
    /// How often it was frozen or killed.
    disturbed: u64,
    waits: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    /// Where its runtime is not its callers' own: what is to be done in it.
    desk: Option<mpsc::UnboundedSender<Job>>,
}

/// Something that is done in a process.
type Job = Box<dyn FnOnce() + Send>;

/// One life of a process.
#[derive(Debug)]
pub struct Process {
    /// For people.
    pub name: Arc<str>,
    /// Where it runs.
    pub host: Host,
    inner: Mutex<Inner>,
}

impl Process {
    /// One that runs.
    pub fn begin(name: &str, host: Host) -> Arc<Self> {
        Arc::new(Self { name: name.into(), host, inner: Mutex::default() })
    }

    /// Runs a task of this process.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let gated = Gated { process: Arc::clone(self), task: Box::pin(task) };
        let handle = tokio::spawn(gated).abort_handle();
        let mut inner = self.inner.lock();
        inner.tasks.retain(|task| !task.is_finished());
        inner.tasks.push(handle);
    }

    /// This process has a runtime of its own, this one: there it does what others ask it for.
    pub fn open_desk(self: &Arc<Self>) {
        let (desk, mut jobs) = mpsc::unbounded_channel::<Job>();
        self.spawn(async move {
            while let Some(job) = jobs.recv().await {
                job();
            }
        });
        self.inner.lock().desk = Some(desk);
    }

    /// Does something in this process: at once, unless it has a runtime of its own. What a process is asked for that ends is
    /// not done.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) {
        let desk = self.inner.lock().desk.clone();
        match desk {
            // An error is that it has ended.
            Some(desk) => drop(desk.send(Box::new(job))),
            None => job(),
        }
    }

    /// What comes of something that is done in this process; nothing, if it ends before.
    pub async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (told, answer) = oneshot::channel();
        self.post(move || drop(told.send(what())));
        answer.await.ok()
    }

    /// Stops it, until it is thawed.
    pub fn freeze(&self) {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Runs {
            inner.mode = Mode::Frozen;
            inner.disturbed += 1;
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        let mut inner = self.inner.lock();
        if inner.mode == Mode::Frozen {
            inner.mode = Mode::Runs;
        }
        let waits = std::mem::take(&mut inner.waits);
        drop(inner);
        waits.into_iter().for_each(Waker::wake);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let mut inner = self.inner.lock();
        inner.mode = Mode::Dead;
        inner.disturbed += 1;
        let tasks = std::mem::take(&mut inner.tasks);
        drop(inner);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// True unless it is frozen or dead.
    pub fn is_running(&self) -> bool {
        self.inner.lock().mode == Mode::Runs
    }

    /// True for good once it was killed.
    pub fn is_dead(&self) -> bool {
        self.inner.lock().mode == Mode::Dead
    }

    /// How often it was frozen or killed.
    pub fn disturbed(&self) -> u64 {
        self.inner.lock().disturbed
    }

    /// True if it runs; else the task is woken when it does.
    pub fn poll_runs(&self, cx: &mut Context<'_>) -> bool {
        let mut inner = self.inner.lock();
        match inner.mode {
            Mode::Runs => true,
            Mode::Dead => false,
            Mode::Frozen => {
                inner.waits.push(cx.waker().clone());
                false
            }
        }
    }

    /// Waits until it runs; for good if it is dead.
    pub async fn runs(&self) {
        let runs = |cx: &mut Context<'_>| match self.poll_runs(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        poll_fn(runs).await;
    }
}

/// A task that stands still with its process.
struct Gated {
    process: Arc<Process>,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.process.poll_runs(cx) {
            return Poll::Pending;
        }
        self.task.as_mut().poll(cx)
    }
}
