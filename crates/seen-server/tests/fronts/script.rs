//! Answers calls as the request wishes, and tells what became of them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seen_api::{Call, CallMeta, Calls, Reply};
use seen_proto::message::{decode, encode};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1;
use seen_proto::wire::{FilterCall, MarkCall};
use tokio::sync::{Semaphore, watch};

/// Bytes of a large answer.
pub const LARGE_BYTES: usize = 30_000;

/// What became of the calls so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Calls that were held.
    pub held: usize,
    /// Held calls for which nobody waited any more.
    pub abandoned: usize,
    /// Calls refused before they were asked.
    pub refused: usize,
    /// Calls that were asked, by their labels.
    pub asked: BTreeMap<&'static str, usize>,
}

/// Answers as the first namespace of a request says: `say` at once what came with the call, `later` the same
/// from a task, `time` how much time there is, `large` many bytes, `invalid` and `full` with errors, `drop` not
/// at all, `panic` by a panic, `hold` once the gate lets it. A message that is none is answered by its length.
#[derive(Clone)]
pub struct Script {
    pub gate: Arc<Semaphore>,
    log: Arc<watch::Sender<Log>>,
}

impl Script {
    pub fn new() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), log: Arc::new(watch::Sender::default()) }
    }

    /// Waits until this is true of the log.
    pub async fn until(&self, is: impl FnMut(&Log) -> bool) {
        self.log.subscribe().wait_for(is).await.expect("it lives");
    }

    pub fn log(&self) -> Log {
        self.log.borrow().clone()
    }

    fn hold(&self, mut reply: Box<dyn Reply>, answer: Bytes) {
        self.log.send_modify(|log| log.held += 1);
        let (gate, log) = (Arc::clone(&self.gate), Arc::clone(&self.log));
        tokio::spawn(async move {
            tokio::select! {
                permit = gate.acquire() => {
                    permit.expect("never closed").forget();
                    reply.send(Ok(answer));
                }
                () = poll_fn(|cx| reply.poll_abandoned(cx)) => {
                    // Dropped first: what follows from it must be seen by whoever reads the log.
                    drop(reply);
                    log.send_modify(|log| log.abandoned += 1);
                }
            }
        });
    }
}

impl Calls for Script {
    fn call(&self, call: Call, meta: &CallMeta, body: Bytes, reply: Box<dyn Reply>) {
        self.log.send_modify(|log| *log.asked.entry(call.label()).or_default() += 1);
        let Some(word) = word(call, &body) else {
            return reply.send(Ok(Bytes::from(format!("{} bytes", body.len()))));
        };
        let said = format!("{} {:?} {:?}", call.label(), meta.tag, meta.trace);
        let said = message(call, said.into_bytes());
        match word.as_str() {
            "later" => drop(tokio::spawn(async move {
                tokio::task::yield_now().await;
                reply.send(Ok(said));
            })),
            "time" => reply.send(Ok(message(call, meta.timeout_us.to_string().into_bytes()))),
            "large" => reply.send(Ok(message(call, large()))),
            "invalid" => reply.send(Err(ApiError::invalid("user", "not so: 100 % é\n"))),
            "full" => {
                let full = ApiError::new(ErrorKind::Overloaded, "no room");
                reply.send(Err(full.retry_after(Duration::from_millis(70))));
            }
            "drop" => {}
            "panic" => panic!("as the request wishes"),
            "hold" => self.hold(reply, said),
            _ => reply.send(Ok(said)),
        }
    }

    fn refused(&self, _error: &ApiError) {
        self.log.send_modify(|log| log.refused += 1);
    }
}

fn large() -> Vec<u8> {
    (0..LARGE_BYTES).map(|at| (at % 251) as u8).collect()
}

fn word(call: Call, body: &Bytes) -> Option<String> {
    match call {
        Call::Filter => FilterCall::parse(body).ok()?.namespaces.as_slice().first().map(word_of),
        Call::Mark => MarkCall::parse(body).ok().map(|mark| mark.namespace.to_owned()),
        Call::FilterUsers => {
            decode::<v1::FilterUsersRequest>(body.clone()).ok()?.namespaces.first().cloned()
        }
        Call::Unmark => Some(decode::<v1::UnmarkRequest>(body.clone()).ok()?.namespace),
        Call::Forget | Call::History | Call::Explain => Some("say".to_owned()),
    }
}

fn word_of(name: &&str) -> String {
    (*name).to_owned()
}

/// The call's answer with these bytes as its token.
fn message(call: Call, token: Vec<u8>) -> Bytes {
    match call {
        Call::Filter => encode(&v1::FilterResponse { token, ..Default::default() }),
        Call::Mark => encode(&v1::MarkResponse { token }),
        Call::Unmark => encode(&v1::UnmarkResponse { token }),
        Call::Forget => encode(&v1::ForgetResponse { token, ..Default::default() }),
        Call::History => {
            encode(&v1::HistoryResponse { next_page_token: token, ..Default::default() })
        }
        Call::Explain => encode(&v1::ExplainResponse::default()),
        Call::FilterUsers => {
            encode(&v1::FilterUsersResponse { request_id: 5, ..Default::default() })
        }
    }
}
