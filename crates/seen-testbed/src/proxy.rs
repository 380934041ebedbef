//! A network between a client and a server that can be made to fail.

mod pump;
mod reset;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::port::{self, Port};
use crate::wait;
use pump::Pipe;

/// How long to try to listen again on a port that is claimed: whoever has it will not for long.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passes everything.
    Whole,
    /// Takes everything and passes nothing.
    Held,
    /// Has no connections and refuses new ones.
    Cut,
    /// Is taken down for good.
    Over,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    target: u16,
    /// Whether the port is listened on.
    listening: bool,
    /// What cuts the network, once a client sends it.
    needle: Option<Vec<u8>>,
    pipes: HashMap<u64, Arc<Pipe>>,
    next_pipe: u64,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

/// A TCP proxy on a port of its own, to a port of 127.0.0.1.
///
/// What fails, fails for all connections. It is taken down with this.
#[derive(Debug)]
pub struct TcpProxy {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Keeps the number while nobody listens.
    _port: Port,
}

impl TcpProxy {
    /// Starts one that passes everything to a port.
    pub fn to(port: u16) -> Result<Self, Error> {
        let (own, listener) = Port::listen()?;
        let number = own.number();
        let state = State {
            mode: Mode::Whole,
            target: port,
            listening: true,
            needle: None,
            pipes: HashMap::new(),
            next_pipe: 0,
        };
        let shared =
            Arc::new(Shared { port: number, state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(listener)
        });
        Ok(Self { shared, acceptor: Some(acceptor), _port: own })
    }

    /// Where clients connect, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Resets all connections and refuses new ones, until [`heal`](Self::heal). Returns when both is so.
    pub fn cut(&self) {
        self.shared.cut();
        let mut state = self.shared.state.lock();
        self.shared.changed.wait_while(&mut state, |state| state.is_closing());
    }

    /// Accepts and passes nothing: a silent network. What is sent meanwhile arrives after
    /// [`heal`](Self::heal).
    pub fn hold(&self) {
        self.turn(Mode::Held);
    }

    /// Passes everything again. Connections that were reset stay so.
    pub fn heal(&self) {
        self.turn(Mode::Whole);
    }

    /// Cuts as soon as the server has answered to a client's `needle`, and swallows the answer: the
    /// server has done what was asked, and the client cannot know.
    ///
    /// The first one counts, of all connections; encrypted ones hide it. [`heal`](Self::heal) forgets
    /// a needle that did not come.
    pub fn cut_after_client_sends(&self, needle: &[u8]) {
        let mut state = self.shared.state.lock();
        state.needle = (!needle.is_empty()).then(|| needle.to_vec());
    }

    /// Waits until the needle of [`cut_after_client_sends`](Self::cut_after_client_sends), or someone,
    /// has cut the network; false after `limit`.
    pub fn wait_for_cut(&self, limit: Duration) -> bool {
        let mut state = self.shared.state.lock();
        let open = |state: &mut State| state.mode != Mode::Cut || state.is_closing();
        !self.shared.changed.wait_while_for(&mut state, open, limit).timed_out()
    }

    /// Leads new connections to another port. Those that are open stay with the old one.
    pub fn retarget(&self, port: u16) {
        self.shared.state.lock().target = port;
    }

    /// How many connections pass through now.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().pipes.len()
    }

    fn turn(&self, mode: Mode) {
        let mut state = self.shared.state.lock();
        state.mode = mode;
        if mode == Mode::Whole {
            state.needle = None;
        }
        self.shared.changed.notify_all();
        // The port is closed only where it was cut, and opened again by the thread that accepts.
        self.shared.changed.wait_while(&mut state, |state| !state.listening);
    }
}

impl State {
    fn is_closing(&self) -> bool {
        self.mode == Mode::Cut && (self.listening || !self.pipes.is_empty())
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

impl Shared {
    /// Accepts while the network is not cut.
    fn accept(self: Arc<Self>, first: TcpListener) {
        let mut listener = Some(first);
        loop {
            let mut state = self.state.lock();
            if state.mode == Mode::Cut {
                // Under the lock: who heals at this moment waits until the port is open again.
                if let Some(open) = listener.take() {
                    port::close(&open);
                }
                state.listening = false;
                self.changed.notify_all();
                self.changed.wait_while(&mut state, |state| state.mode == Mode::Cut);
            }
            if state.mode == Mode::Over {
                if let Some(open) = listener {
                    port::close(&open);
                }
                return;
            }
            drop(state);
            match &listener {
                Some(open) => {
                    if let Ok((client, _)) = open.accept() {
                        self.begin(client);
                    }
                }
                None => {
                    listener = wait::until(LISTEN_LIMIT, || listen(self.port).ok());
                    self.state.lock().listening = listener.is_some();
                    self.changed.notify_all();
                }
            }
        }
    }

    /// Passes a connection on, in threads of its own.
    fn begin(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state.lock();
        if matches!(state.mode, Mode::Cut | Mode::Over) {
            // The one that woke this thread, or one that came at the same moment.
            let _closed_anyway = reset::when_closed(&client);
            return;
        }
        let id = state.next_pipe;
        state.next_pipe += 1;
        let pipe = Arc::new(Pipe::new(id, client));
        state.pipes.insert(id, Arc::clone(&pipe));
        drop(state);
        let shared = Arc::clone(self);
        thread::spawn(move || pipe.run(&shared));
    }

    /// Begins to cut; the threads do the rest.
    fn cut(&self) {
        let mut state = self.state.lock();
        if state.mode == Mode::Over {
            return;
        }
        state.mode = Mode::Cut;
        self.close_all(&mut state);
    }

    /// Ends every connection and wakes every thread.
    fn close_all(&self, state: &mut State) {
        state.needle = None;
        for pipe in state.pipes.values() {
            pipe.abort();
        }
        self.changed.notify_all();
        if state.listening {
            // Wakes the thread that accepts. If it is not there, there is nobody to wake.
            let _woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        }
    }

    /// Waits while the network is silent. Where to connect; none if the network is cut.
    fn may_pass(&self) -> Option<u16> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.mode == Mode::Held);
        (state.mode == Mode::Whole).then_some(state.target)
    }

    /// Whether a chunk completes the needle, which is then looked for no more. `recent` is what was sent
    /// before on that connection, as far as a needle can begin in it.
    fn finds_needle(&self, recent: &mut Vec<u8>, chunk: &[u8]) -> bool {
        let mut state = self.state.lock();
        let Some(needle) = &state.needle else {
            recent.clear();
            return false;
        };
        recent.extend_from_slice(chunk);
        let found = recent.windows(needle.len()).any(|window| window == needle.as_slice());
        recent.drain(..recent.len().saturating_sub(needle.len() - 1));
        if found {
            state.needle = None;
        }
        found
    }

    /// Closes a connection whose loops have ended; under the lock, so that who waits until there is none
    /// finds it closed.
    fn end(&self, pipe: Arc<Pipe>) {
        let mut state = self.state.lock();
        state.pipes.remove(&pipe.id());
        drop(pipe);
        self.changed.notify_all();
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.mode = Mode::Over;
        self.shared.close_all(&mut state);
        drop(state);
        if let Some(acceptor) = self.acceptor.take() {
            // It does not panic; and if it did, it is over as well.
            let _over = acceptor.join();
        }
    }
}
