//! The names of a map, and what they were found to stand for.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::check::split_address;
use super::{Looked, Resolve, ResolveError, Service, SlotMap, metrics};

/// An answer is used at least so long.
const TTL_MIN: Duration = Duration::from_secs(1);
/// And at most so long.
const TTL_MAX: Duration = Duration::from_secs(60);
/// A question is given up after so long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// So many are asked at a time.
const LOOKUPS_AT_ONCE: usize = 32;
/// The longest time between two questions without an answer.
const RETRY_MAX: Duration = Duration::from_secs(16);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Host(String),
    Service(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Hosts(Vec<IpAddr>),
    Services(Vec<Service>),
}

#[derive(Debug)]
struct Known {
    /// The last answer. What became of it since is told by no failure, not even by "no such name": a wrong address costs a
    /// connection that is refused, and a missing one a replica.
    answer: Option<Answer>,
    /// How often it failed since then.
    failures: u32,
    /// When to ask (again). None while it is being asked.
    next: Option<Instant>,
}

impl Known {
    fn new(now: Instant) -> Self {
        Self { answer: None, failures: 0, next: Some(now) }
    }

    /// True once there was an answer, or none in time.
    fn was_asked(&self) -> bool {
        self.answer.is_some() || self.failures > 0
    }
}

type Asked = (Question, Result<(Answer, Duration), ResolveError>);

/// All names that a map needs, and the questions under way.
pub(super) struct Names {
    resolver: Arc<dyn Resolve>,
    known: HashMap<Question, Known>,
    asking: FuturesUnordered<BoxFuture<'static, Asked>>,
}

impl Names {
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, known: HashMap::new(), asking: FuturesUnordered::new() }
    }

    /// None, and none can be looked up.
    pub fn none() -> Self {
        Self::new(Arc::new(NoDns))
    }

    /// The addresses of a host, if they are known. A literal address needs no looking up.
    pub fn addresses(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(literal) = host.parse() {
            return vec![literal];
        }
        match self.known.get(&Question::Host(host.to_owned())).map(|known| &known.answer) {
            Some(Some(Answer::Hosts(found))) => found.clone(),
            _ => Vec::new(),
        }
    }

    /// The SRV records of a name, if they are known.
    pub fn services(&self, name: &str) -> &[Service] {
        match self.known.get(&Question::Service(name.to_owned())).map(|known| &known.answer) {
            Some(Some(Answer::Services(found))) => found,
            _ => &[],
        }
    }

    /// Keeps what the map needs, and nothing else.
    pub fn keep_for(&mut self, map: &SlotMap, now: Instant) {
        let mut needed = questions(map);
        let targets = needed.iter().filter_map(|question| match question {
            Question::Service(name) => Some(self.services(name)),
            Question::Host(_) => None,
        });
        let targets: Vec<_> = targets.flatten().map(|service| host(&service.target)).collect();
        needed.extend(targets.into_iter().flatten());
        self.known.retain(|question, _| needed.contains(question));
        for question in needed {
            self.known.entry(question).or_insert_with(|| Known::new(now));
        }
    }

    /// True if no name waits for its first answer.
    pub fn are_asked(&self) -> bool {
        self.known.values().all(Known::was_asked)
    }

    /// Asks what is due, and says when the next one is.
    pub fn ask_due(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (question, known) in &mut self.known {
            let Some(due) = known.next else { continue };
            if due <= now && self.asking.len() < LOOKUPS_AT_ONCE {
                known.next = None;
                self.asking.push(Box::pin(ask(self.resolver.clone(), question.clone())));
            } else if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }

    /// Waits for the next answer, and says whether it changed anything. Never ends while nothing is asked.
    pub async fn answered(&mut self) -> bool {
        let Some((question, result)) = self.asking.next().await else {
            return std::future::pending().await;
        };
        // A name that no map needs any more.
        let Some(known) = self.known.get_mut(&question) else { return false };
        let now = Instant::now();
        match result {
            Ok((answer, ttl)) => {
                if known.failures > 0 {
                    info!(?question, "a name of the slot map is answered again");
                }
                known.failures = 0;
                known.next = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
                let changed = known.answer.as_ref() != Some(&answer);
                known.answer = Some(answer);
                changed
            }
            Err(error) => {
                metrics::lookups_failed().increment(1);
                if known.failures == 0 {
                    let kept = known.answer.is_some();
                    warn!(?question, %error, kept, "a name of the slot map is not answered");
                }
                let wait = TTL_MIN.saturating_mul(1 << known.failures.min(8)).min(RETRY_MAX);
                known.failures += 1;
                known.next = Some(now + wait);
                // The first failure is news to whoever waits for all names.
                known.failures == 1 && known.answer.is_none()
            }
        }
    }
}

/// Answers nothing.
struct NoDns;

impl Resolve for NoDns {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Looked<IpAddr>, ResolveError>> {
        Box::pin(async { Err(ResolveError("no names are looked up".to_owned())) })
    }

    fn services<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Looked<Service>, ResolveError>> {
        Box::pin(async { Err(ResolveError("no names are looked up".to_owned())) })
    }
}

/// The question for a host, if it is no literal address.
fn host(name: &str) -> Option<Question> {
    name.parse::<IpAddr>().is_err().then(|| Question::Host(name.to_owned()))
}

fn questions(map: &SlotMap) -> HashSet<Question> {
    let slots = map.pools().iter().flat_map(|pool| pool.slots());
    let of_slot = |slot: &super::Slot| {
        let replicas = slot.replicas.iter().map(|replica| &replica.address);
        let addresses = replicas.chain(&slot.dns);
        let hosts = addresses.filter_map(|address| host(split_address(address).ok()?.0));
        let services = slot.srv.iter().map(|name| Question::Service(name.clone()));
        hosts.chain(services).collect::<Vec<_>>()
    };
    slots.flat_map(of_slot).collect()
}

async fn ask(resolver: Arc<dyn Resolve>, question: Question) -> Asked {
    let asked = async {
        match &question {
            Question::Host(host) => resolver.addresses(host).await.map(|mut looked| {
                looked.found.sort_unstable();
                looked.found.dedup();
                (looked.found.is_empty(), Answer::Hosts(looked.found), looked.ttl)
            }),
            Question::Service(name) => resolver.services(name).await.map(|mut looked| {
                looked.found.sort_unstable();
                looked.found.dedup();
                (looked.found.is_empty(), Answer::Services(looked.found), looked.ttl)
            }),
        }
    };
    let answer = match timeout(LOOKUP_TIMEOUT, asked).await {
        Ok(Ok((false, answer, ttl))) => Ok((answer, ttl)),
        Ok(Ok((true, _, _))) => Err(ResolveError("no record".to_owned())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ResolveError(format!("no answer for {LOOKUP_TIMEOUT:?}"))),
    };
    (question, answer)
}
