//! The leanest load: HTTP/2 by hand, one task a connection, no task and no allocation a call. Where the `h2` crate's
//! client costs more than the server that it asks, this costs about as much as the server's kernel does.
//!
//! It asks one kind of call, and looks at nothing of an answer but its length and its `grpc-status`: whether answers
//! are right is found out before and after.

mod hpack;
mod wire;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use seen_cluster::tls::ClientTls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::{ANSWERS_WITHIN, PACED_EVERY, Pace, Shape, Tally};
use crate::bench::{BenchError, system};
use wire::Wire;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// What is called.
#[derive(Clone)]
pub(in crate::bench) struct LeanTarget {
    /// Where.
    pub address: SocketAddr,
    /// The call's path.
    pub path: &'static str,
    /// The `grpc-timeout` of each call.
    pub timeout: &'static str,
    /// The pool that is to answer.
    pub tag: Option<&'static str>,
    /// Certificates.
    pub tls: Option<ClientTls>,
}

/// Appends one message, its gRPC prefix included.
pub(in crate::bench) type Writer = Box<dyn FnMut(&mut Vec<u8>)>;

/// Puts load on a target from so many threads, and blocks until all is answered. `source` makes each thread's messages.
///
/// # Errors
/// A connection that could not be made. Failed calls are in the tally.
pub(in crate::bench) fn run_lean(
    threads: usize,
    target: &LeanTarget,
    shape: Shape,
    source: impl Fn(usize) -> Writer + Sync,
) -> Result<Tally, BenchError> {
    let pace = match shape.pace {
        Pace::Closed => Pace::Closed,
        Pace::Open { per_s } => Pace::Open { per_s: per_s / threads as f64 },
    };
    let shape = Shape { pace, ..shape };
    std::thread::scope(|scope| {
        let source = &source;
        let started: Vec<_> =
            (0..threads).map(|at| scope.spawn(move || run(target, shape, source(at)))).collect();
        let mut all = Tally::new();
        for thread in started {
            let died =
                |_| BenchError::Part { part: "load".to_owned(), what: "panicked".to_owned() };
            all.add(&thread.join().map_err(died)??);
        }
        Ok(all)
    })
}

fn run(target: &LeanTarget, shape: Shape, source: Writer) -> Result<Tally, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start a runtime for the load"))?;
    let load = Load {
        target: target.clone(),
        shape,
        began: Instant::now(),
        source: RefCell::new(source),
        tally: RefCell::new(Tally::new()),
        sent: Cell::new(0),
    };
    LocalSet::new().block_on(&runtime, async move {
        let load = Rc::new(load);
        let connections: Vec<_> =
            (0..shape.connections).map(|_| spawn_local(Rc::clone(&load).connections())).collect();
        let mut failed = None;
        for connection in connections {
            match connection.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed = Some(error),
                Err(error) => failed = Some(io::Error::other(error)),
            }
        }
        if let Some(source) = failed {
            return Err(BenchError::System {
                what: format!("a call to {}", target.address),
                source,
            });
        }
        let mut tally = load.tally.replace(Tally::new());
        tally.elapsed = load.began.elapsed();
        tally.unsent = load.wanted().saturating_sub(load.sent.get());
        Ok(tally)
    })
}

struct Load {
    target: LeanTarget,
    shape: Shape,
    began: Instant,
    source: RefCell<Writer>,
    tally: RefCell<Tally>,
    /// Requests sent.
    sent: Cell<u64>,
}

impl Load {
    /// Requests of an open loop.
    fn wanted(&self) -> u64 {
        match self.shape.pace {
            Pace::Closed => 0,
            Pace::Open { per_s } => (self.shape.lasting.as_secs_f64() * per_s) as u64,
        }
    }

    /// Since when the next request is due; `None` where none is.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.is_over(now) {
            return None;
        }
        match self.shape.pace {
            Pace::Closed => Some(now),
            Pace::Open { per_s } => {
                let due = self.began + Duration::from_secs_f64(self.sent.get() as f64 / per_s);
                (due <= now && self.sent.get() < self.wanted()).then_some(due)
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= self.shape.lasting
    }

    /// Connects, and again when the server asks to close.
    async fn connections(self: Rc<Self>) -> io::Result<()> {
        while !self.is_over(Instant::now()) {
            let stream = TcpStream::connect(self.target.address).await?;
            stream.set_nodelay(true)?;
            match &self.target.tls {
                None => self.connection(stream).await?,
                Some(tls) => {
                    let name = self.target.address.ip().to_string();
                    self.connection(tls.connect(&name, stream).await?).await?;
                }
            }
        }
        Ok(())
    }

    async fn connection<S>(&self, mut stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let authority = self.target.address.to_string();
        let mut texts = vec![
            (":path", self.target.path),
            (":authority", &*authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", self.target.timeout),
        ];
        texts.extend(self.target.tag.map(|tag| (seen_api::meta::TAG_HEADER, tag)));
        let mut wire = Wire::new(self.shape.streams, &texts, self.target.tls.is_some());
        let mut message_bytes = 0;
        loop {
            let now = Instant::now();
            while wire.in_flight() < self.shape.streams
                && wire.takes(message_bytes)
                && let Some(due) = self.due(now)
            {
                let before = wire.out.len();
                wire.send(due, &mut *self.source.borrow_mut());
                message_bytes = message_bytes.max(wire.out.len() - before);
                self.sent.set(self.sent.get() + 1);
            }
            if !wire.out.is_empty() {
                stream.write_all(&wire.out).await?;
                stream.flush().await?;
                wire.out.clear();
            }
            if wire.in_flight() == 0 && (self.is_over(now) || wire.closing()) {
                return Ok(());
            }
            self.read(&mut stream, &mut wire).await?;
            let now = Instant::now();
            let mut tally = self.tally.borrow_mut();
            wire.take(|ended| tally.count(ended.answer, now.duration_since(ended.due)))?;
        }
    }

    /// Reads what is there, or waits until something is due.
    async fn read<S>(&self, stream: &mut S, wire: &mut Wire) -> io::Result<()>
    where
        S: AsyncRead + Unpin,
    {
        wire.input.reserve(READ_BYTES);
        let paced = matches!(self.shape.pace, Pace::Open { .. });
        let limit = match paced && !self.is_over(Instant::now()) {
            true => PACED_EVERY,
            false => self.shape.lasting + ANSWERS_WITHIN,
        };
        match timeout(limit, stream.read_buf(&mut wire.input)).await {
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) if limit == PACED_EVERY => Ok(()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "calls were not answered")),
        }
    }
}
