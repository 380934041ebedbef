//! One connection through the proxy: two directions, each a loop of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Shared, reset};

/// How much is passed at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often one who cannot write, as nobody reads, looks whether the connection was cut.
const WRITE_LOOK: Duration = Duration::from_millis(50);

/// A client's connection, and its counterpart to the server once there is one.
#[derive(Debug)]
pub(super) struct Pipe {
    id: u64,
    client: TcpStream,
    server: OnceLock<TcpStream>,
    aborted: AtomicBool,
    /// The client has sent what must not be answered.
    swallow: AtomicBool,
}

impl Pipe {
    pub(super) fn new(id: u64, client: TcpStream) -> Self {
        let (aborted, swallow) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { id, client, server: OnceLock::new(), aborted, swallow }
    }

    /// Ends both loops. Both sides see a reset, as soon as the streams are closed.
    pub(super) fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
        for stream in [Some(&self.client), self.server.get()].into_iter().flatten() {
            // Each fails only on a connection that the other side has ended. The reading side alone is
            // shut down: that wakes its reader, and tells the other side nothing.
            let _ended = reset::when_closed(stream);
            let _ended = stream.shutdown(Shutdown::Read);
        }
    }

    /// Passes everything until both sides are done or the connection is cut, then closes it.
    pub(super) fn run(self: Arc<Self>, shared: &Shared) {
        if self.connect(shared).is_none() {
            self.abort();
        }
        if let Some(server) = self.server.get() {
            thread::scope(|scope| {
                scope.spawn(|| self.pass(shared, &self.client, server, true));
                self.pass(shared, server, &self.client, false);
            });
        }
        shared.end(self);
    }

    /// Connects to the server, when the network lets it.
    fn connect(&self, shared: &Shared) -> Option<()> {
        let target = shared.may_pass()?;
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).ok()?;
        for stream in [&self.client, &server] {
            stream.set_nodelay(true).ok()?;
            stream.set_write_timeout(Some(WRITE_LOOK)).ok()?;
        }
        // Under the lock, so that whoever cuts sees this stream or this sees that it was cut.
        let _state = shared.state.lock();
        self.server.set(server).ok()?;
        if self.aborted.load(Ordering::SeqCst) {
            self.abort();
        }
        Some(())
    }

    /// One direction.
    fn pass(&self, shared: &Shared, mut from: &TcpStream, to: &TcpStream, asks: bool) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut recent = Vec::new();
        loop {
            let read = match from.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other,
            };
            let passes = shared.may_pass().is_some() && !self.aborted.load(Ordering::SeqCst);
            if !asks && self.swallow.load(Ordering::SeqCst) {
                return shared.cut();
            }
            match read {
                Ok(bytes) if bytes > 0 && passes => {
                    if asks && shared.finds_needle(&mut recent, &chunk[..bytes]) {
                        self.swallow.store(true, Ordering::SeqCst);
                    }
                    if self.write(to, &chunk[..bytes]).is_err() {
                        return self.abort();
                    }
                }
                Ok(_) if passes => {
                    // This side is done; the other may still have something to say.
                    let _ended = to.shutdown(Shutdown::Write);
                    return;
                }
                _ => return self.abort(),
            }
        }
    }

    /// Writes all, unless the connection is cut meanwhile.
    fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut
                        if !self.aborted.load(Ordering::SeqCst) => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }
}
