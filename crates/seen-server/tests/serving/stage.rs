//! A front with a service whose requests wait, work, or answer, as the test wants.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use seen_api::{Call, CallMeta, Calls, Reply};
use seen_server::config::ServerConfig;
use seen_server::serving::{
    Drained, Front, FrontStatus, RequestBody, Served, ServingOptions, ThreadIndex,
};
use seen_server::shutdown::Stop;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower::Service;

/// How long a `/spin` request works.
const SPIN: Duration = Duration::from_micros(500);

/// A service without the hot calls.
#[derive(Clone)]
pub struct Plain<S>(pub S);

/// Answers none of them.
#[derive(Clone)]
pub struct NoCalls;

impl Calls for NoCalls {
    fn call(&self, call: Call, _meta: &CallMeta, _body: Bytes, _reply: Box<dyn Reply>) {
        panic!("{call:?} is not asked here");
    }
}

impl<S, B> Served for Plain<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError> + Send>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    type Calls = NoCalls;
    type Others = S;
    type Body = B;

    fn calls(&self) -> &NoCalls {
        &NoCalls
    }

    fn others(&self) -> S {
        self.0.clone()
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A running front.
pub struct Stage {
    pub address: SocketAddr,
    pub status: FrontStatus,
    pub stop: Stop,
    pub gate: Arc<Semaphore>,
    held: watch::Receiver<usize>,
    served: JoinHandle<Drained>,
}

/// Options with which things happen soon.
pub fn options(threads: usize) -> ServingOptions {
    ServingOptions {
        threads,
        balance_interval: Duration::from_millis(20),
        ..ServingOptions::from(&ServerConfig::default())
    }
}

impl Stage {
    pub async fn open(options: ServingOptions) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (holding, held) = watch::channel(0);
        let (holding, its_gate) = (Arc::new(holding), Arc::clone(&gate));
        let make = move |thread: ThreadIndex| {
            let (holding, gate) = (Arc::clone(&holding), Arc::clone(&its_gate));
            Plain(tower::service_fn(move |request: Request<RequestBody>| {
                answer(thread, request, Arc::clone(&holding), Arc::clone(&gate))
            }))
        };
        let front = Front::start(options, make).await.expect("it starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (status, stop) = (front.status(), Stop::default());
        let served = tokio::spawn(front.serve(listener, stop.requested_within()));
        Self { address, status, stop, gate, held, served }
    }

    /// Waits until this many `/hold` requests were begun in all.
    pub async fn held(&mut self, requests: usize) {
        self.held.wait_for(|begun| *begun >= requests).await.expect("the front lives");
    }

    /// Stops and waits for the end.
    pub async fn close(self) -> Drained {
        self.stop.request();
        self.served.await.expect("no panic")
    }
}

async fn answer(
    thread: ThreadIndex,
    request: Request<RequestBody>,
    holding: Arc<watch::Sender<usize>>,
    gate: Arc<Semaphore>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/hold" => {
            holding.send_modify(|begun| *begun += 1);
            gate.acquire().await.expect("never closed").forget();
        }
        "/spin" => {
            let begin = Instant::now();
            while begin.elapsed() < SPIN {
                std::hint::spin_loop();
            }
        }
        _ => {}
    }
    Ok(Response::new(Full::from(thread.to_string())))
}
