//! Callers: calls to proxies as an application makes them, and what is made of the answers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use seen_api::reply::awaited;
use seen_api::{Call, CallMeta, Calls};
use seen_filter::{ChangeFeed, NamespaceId, UserId};
use seen_proto::message::{decode, encode};
use seen_proto::model::Quality;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::token::{ClusterId, Token, WildcardSource};
use seen_proto::v1::{self, DegradedReason};
use tokio::time::{Instant, timeout};

use crate::cluster::{CLUSTER, Cluster, NAMESPACE};
use crate::ledger::{Deed, Ledger, OpId, Outcome};
use crate::proxy::ProxyNode;
use crate::report::Report;
use crate::time::now;

/// The kind of all items.
pub const KIND: u32 = 1;
/// How long a reader waits.
pub const READ_WITHIN: Duration = Duration::from_millis(90);
/// How long a writer waits.
pub const WRITE_WITHIN: Duration = Duration::from_millis(400);
/// How long one waits who has users forgotten.
pub const FORGET_WITHIN: Duration = Duration::from_secs(2);
/// How long answers may be flagged after everything that was wrong is over: a fence that was lost is followed after 5 s.
pub const RECOVERS_WITHIN: Duration = Duration::from_millis(7_000);
/// Timers ring up to so much late.
pub const GRACE: Duration = Duration::from_millis(2);
/// The same where caller and proxy have runtimes of their own that take turns every millisecond: a question and its answer
/// each wait for a turn.
pub const OWN_RUNTIMES_GRACE: Duration = Duration::from_millis(4);

/// What every caller knows.
pub struct Callers {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The proxies that run, by their number.
    pub proxies: Mutex<Vec<Option<ProxyNode>>>,
    /// What was done.
    pub ledger: Mutex<Ledger>,
    /// What came of it.
    pub report: Mutex<Report>,
    /// Makes tokens small.
    pub wildcards: WildcardSource,
    /// What an answer may be later than its deadline.
    pub grace: Duration,
}

/// What came of a call.
pub enum Said {
    /// An answer in time.
    Answer(Result<Bytes, ApiError>),
    /// None, since the proxy was disturbed.
    Nothing,
}

/// What a session does with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// It merges what it is given.
    Merged,
    /// It keeps what it was given last: that holds what it sent.
    Last,
    /// It has none, and always calls the same proxy.
    Nothing,
}

/// One user's session.
pub struct Session {
    /// Whose.
    pub user: u64,
    /// For people.
    pub name: Arc<str>,
    /// The pool that it asks.
    tag: &'static str,
    carries: Carries,
    /// What it wrote.
    token: Vec<u8>,
    /// The marks that its token stands for, or that its proxy knows of.
    held: BTreeSet<OpId>,
    /// The proxy's life that it wrote through without a token.
    life: u64,
}

impl Session {
    /// One that wrote nothing, and asks the pool of this tag.
    pub fn new(user: u64, device: u64, tag: &'static str) -> Self {
        let name = format!("user {user}{}", if device == 0 { "" } else { "'" }).into();
        let carries = match (user + device) % 4 {
            0 | 1 => Carries::Merged,
            2 => Carries::Last,
            _ => Carries::Nothing,
        };
        Self { user, name, tag, carries, token: Vec::new(), held: BTreeSet::new(), life: 0 }
    }

    /// The proxy to call, of so many, if it were `any`.
    pub fn proxy(&self, any: usize, proxies: usize) -> usize {
        match self.carries {
            Carries::Nothing => self.user as usize % proxies.max(1),
            Carries::Merged | Carries::Last => any,
        }
    }

    /// What another life of the proxy does not know of need not be seen.
    fn meets(&mut self, life: u64) {
        if self.carries == Carries::Nothing && life != self.life {
            self.held.clear();
            self.life = life;
        }
    }

    fn absorb(&mut self, answer: &[u8], wildcards: &WildcardSource) {
        match self.carries {
            Carries::Merged => {}
            Carries::Last => return self.token = answer.to_vec(),
            Carries::Nothing => return,
        }
        let cluster = ClusterId::new(CLUSTER);
        let own = Token::decode(&self.token, cluster);
        if let (Ok(mut token), Ok(more)) = (own, Token::decode(answer, cluster)) {
            token.merge(&more, || wildcards.fresh());
            self.token.clear();
            token.encode(cluster, &mut self.token);
        }
    }
}

impl Callers {
    /// Calls a proxy.
    pub async fn call(&self, proxy: usize, call: Call, body: Bytes, within: Duration) -> Said {
        self.call_tagged(proxy, "", (call, body), within).await
    }

    /// Calls a proxy, which is to ask the pool of this tag.
    pub async fn call_tagged(
        &self,
        proxy: usize,
        tag: &'static str,
        (call, body): (Call, Bytes),
        within: Duration,
    ) -> Said {
        let Some(node) = self.proxies.lock().get(proxy).cloned().flatten() else {
            return Said::Nothing;
        };
        let disturbed = node.process.disturbed();
        if !node.process.is_running() {
            // It lies in the socket; nobody reads it before the caller has gone.
            tokio::time::sleep(within).await;
            return Said::Nothing;
        }
        let began = Instant::now();
        let (reply, answer) = awaited();
        let timeout_us = within.as_micros() as u64;
        let tag = Bytes::from_static(tag.as_bytes());
        let meta = CallMeta { timeout_us, tag, ..CallMeta::default() };
        let ProxyNode { process, proxy, .. } = node;
        process.post(move || proxy.call(call, &meta, body, reply));
        let answer = timeout(within + self.grace, answer).await;
        let took = began.elapsed();
        if process.disturbed() != disturbed {
            return Said::Nothing;
        }
        let mut report = self.report.lock();
        report.calls += 1;
        report.longest = report.longest.max(took);
        match answer {
            Ok(answer) if took <= within + self.grace => Said::Answer(answer),
            _ => {
                let what = format!("{}: no answer within {within:?}", call.label());
                drop(report);
                self.broken(None, 4, what);
                Said::Nothing
            }
        }
    }

    /// A promise was not kept.
    pub fn broken(&self, user: Option<u64>, promise: u8, what: String) {
        let at_us = self.cluster.trace.now_us();
        self.cluster.trace.tell(&"checker".into(), format_args!("({promise}) {what}"));
        self.report.lock().broken(at_us, user, promise, what);
    }

    /// Asks which of these are unread.
    pub async fn filter(&self, session: &mut Session, proxy: usize, ids: Vec<u64>) {
        let proxy = session.proxy(proxy, self.proxies.lock().len());
        session.meets(self.life(proxy));
        let request = filter_request(session.user, &session.token, &ids);
        let (applied, for_good) = self.applied(session.user);
        let calm = self.cluster.calm.lasts();
        let must = {
            let ledger = self.ledger.lock();
            let must = |id: &&u64| ledger.must_see(session.user, **id, &session.held, applied);
            ids.iter().filter(must).copied().collect::<BTreeSet<u64>>()
        };
        let undone = {
            let ledger = self.ledger.lock();
            let undone = |id: &&u64| ledger.is_undone(session.user, **id, for_good);
            ids.iter().filter(undone).copied().collect::<BTreeSet<u64>>()
        };
        let asked = now();
        let call = (Call::Filter, encode(&request));
        let said = self.call_tagged(proxy, session.tag, call, READ_WITHIN).await;
        let Said::Answer(answer) = said else {
            return self.tell(session, proxy, format_args!("filter: nothing"));
        };
        let response = answer.and_then(decode::<v1::FilterResponse>);
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                self.report.lock().errors += 1;
                let label = error.kind.label();
                return self.tell(session, proxy, format_args!("filter: {label}"));
            }
        };
        let unseen: BTreeSet<u64> =
            response.unseen.iter().filter_map(|at| ids.get(*at as usize)).copied().collect();
        let flagged = flag(&response);
        let open = flagged == Some(DegradedReason::Contested)
            && (!self.cluster.shape.numbers_commits
                || self.ledger.lock().wrote_since(session.user, asked));
        self.report.lock().filtered(flagged.is_some(), open);
        let (read, of) = (ids.len() - unseen.len(), ids.len());
        if let Some(why) = flagged {
            let name = why.as_str_name();
            self.tell(session, proxy, format_args!("filter: {read} of {of} read, flagged: {name}"));
            // See [`Report::open`]. What went wrong while it was asked, if only for a moment, counts as well.
            if !open {
                let until = self.cluster.calm.lasts();
                self.flagged(session, proxy, why, calm.zip(until).map(|(from, to)| from.min(to)));
            }
            return;
        }
        self.tell(session, proxy, format_args!("filter: {read} of {of} read"));
        if is_exact(&response) {
            self.check_undone(session, undone.difference(&unseen), for_good);
        }
        // What was undone meanwhile need not be seen.
        let ledger = self.ledger.lock();
        let stands = |id: &&u64| ledger.must_see(session.user, **id, &session.held, applied);
        let missed: Vec<u64> = must.intersection(&unseen).filter(stands).copied().collect();
        drop(ledger);
        if !missed.is_empty() {
            let (name, head) = (&session.name, self.cluster.store.head());
            let what = format!(
                "{name}: items {missed:?} are unread, though it marked them, or all is applied up to {applied} of {head}"
            );
            self.broken(Some(session.user), 2, what);
        }
    }

    /// An answer without a filter's error called these read, though they had been undone when it was asked for.
    fn check_undone<'a>(
        &self,
        session: &Session,
        read: impl Iterator<Item = &'a u64>,
        applied: u64,
    ) {
        let ledger = self.ledger.lock();
        // Somebody may have marked it again meanwhile.
        let undone = |id: &&u64| ledger.is_undone(session.user, **id, applied);
        let wrong: Vec<u64> = read.filter(undone).copied().collect();
        drop(ledger);
        if !wrong.is_empty() {
            let (name, head) = (&session.name, self.cluster.store.head());
            let what = format!(
                "{name}: items {wrong:?} are read, though all is applied up to {applied} of {head}, and they were undone by then"
            );
            self.broken(Some(session.user), 5, what);
        }
    }

    /// An answer was flagged: for as long as anything is wrong, and a while after it, that is right.
    fn flagged(
        &self,
        session: &Session,
        proxy: usize,
        why: DegradedReason,
        calm: Option<Duration>,
    ) {
        let Some(calm) = calm.filter(|calm| !calm.is_zero()) else { return };
        let mut report = self.report.lock();
        report.calm_longest = report.calm_longest.max(calm);
        drop(report);
        if calm > RECOVERS_WITHIN {
            let (name, why) = (&session.name, why.as_str_name());
            let what =
                format!("{name} at proxy {proxy}: flagged {why}, {calm:?} after all was well");
            self.broken(Some(session.user), 6, what);
        }
    }

    /// Up to which commit everybody has applied what concerns a user, and up to which nobody hears of it again.
    pub fn applied(&self, user: u64) -> (u64, u64) {
        let feed = self.cluster.store.feed_of(NamespaceId::new(0), UserId::new(user));
        (self.cluster.applied.everywhere(feed), self.cluster.applied.for_good(feed))
    }

    fn life(&self, proxy: usize) -> u64 {
        let proxies = self.proxies.lock();
        proxies.get(proxy).and_then(Option::as_ref).map_or(0, |node| node.life)
    }

    /// Marks, unmarks or forgets.
    pub async fn write(&self, session: &mut Session, proxy: usize, deed: Deed, ids: Vec<u64>) {
        let proxy = session.proxy(proxy, self.proxies.lock().len());
        let life = self.life(proxy);
        session.meets(life);
        let (call, body, within) = write_request(session, deed, &ids);
        let op = self.ledger.lock().begin(session.user, deed, &ids);
        self.cluster.deadlines.waits(session.user, deed, &ids, within);
        let verb = call.label();
        self.tell(session, proxy, format_args!("{verb} {ids:?} begins"));
        let said = self.call_tagged(proxy, session.tag, (call, body), within).await;
        let (outcome, token, what) = match said {
            Said::Nothing => (Outcome::Unknown, None, "nothing".to_owned()),
            Said::Answer(Err(error)) => {
                self.report.lock().errors += 1;
                (outcome_of(error.kind), None, error.kind.label().to_owned())
            }
            Said::Answer(Ok(bytes)) => acknowledged(call, bytes),
        };
        self.ledger.lock().end(op, outcome, self.cluster.store.head());
        self.tell(session, proxy, format_args!("{verb} {ids:?}: {what}"));
        if let Some(token) = token
            && life == self.life(proxy)
        {
            session.absorb(&token, &self.wildcards);
            session.held.insert(op);
        }
    }

    fn tell(&self, session: &Session, proxy: usize, what: fmt::Arguments<'_>) {
        self.cluster.trace.tell(&session.name, format_args!("at proxy {proxy}: {what}"));
    }
}

/// A Filter's message.
pub fn filter_request(user: u64, token: &[u8], ids: &[u64]) -> v1::FilterRequest {
    v1::FilterRequest {
        user,
        namespaces: vec![NAMESPACE.to_owned()],
        candidates: vec![v1::ItemGroup { kind: KIND, ids: ids.to_vec() }],
        token: token.to_vec(),
        ..Default::default()
    }
}

/// Why an answer is flagged, if it is.
pub fn flag(response: &v1::FilterResponse) -> Option<DegradedReason> {
    match Quality::from(&response.quality.unwrap_or_default()) {
        Quality::Degraded { reason, .. } => Some(reason),
        Quality::Exact | Quality::Filtered { .. } => None,
    }
}

/// True if an answer says that no filter's error is in it.
pub fn is_exact(response: &v1::FilterResponse) -> bool {
    matches!(Quality::from(&response.quality.unwrap_or_default()), Quality::Exact)
}

fn write_request(session: &Session, deed: Deed, ids: &[u64]) -> (Call, Bytes, Duration) {
    let (user, token, namespace) = (session.user, session.token.clone(), NAMESPACE.to_owned());
    match deed {
        Deed::Mark => {
            let item = |id: &u64| v1::MarkItem { kind: KIND, id: *id, marked_at_ms: None };
            let items = ids.iter().map(item).collect();
            let request = v1::MarkRequest { user, namespace, items, token };
            (Call::Mark, encode(&request), WRITE_WITHIN)
        }
        Deed::Unmark => {
            let items = vec![v1::ItemGroup { kind: KIND, ids: ids.to_vec() }];
            let request = v1::UnmarkRequest { user, namespace, items, token };
            (Call::Unmark, encode(&request), WRITE_WITHIN)
        }
        Deed::Forget => {
            let scope = Some(v1::forget_request::Scope::Namespace(namespace));
            (Call::Forget, encode(&v1::ForgetRequest { user, token, scope }), FORGET_WITHIN)
        }
    }
}

/// What came of a write that failed so.
fn outcome_of(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::OutcomeUnknown | ErrorKind::Internal => Outcome::Unknown,
        _ => Outcome::Refused,
    }
}

fn acknowledged(call: Call, bytes: Bytes) -> (Outcome, Option<Vec<u8>>, String) {
    let token = match call {
        Call::Mark => decode::<v1::MarkResponse>(bytes).map(|response| response.token),
        Call::Unmark => decode::<v1::UnmarkResponse>(bytes).map(|response| response.token),
        _ => decode::<v1::ForgetResponse>(bytes).and_then(|response| {
            match response.namespaces.iter().find_map(|one| one.error.clone()) {
                // It may have been begun.
                Some(error) => Err(ApiError::new(ErrorKind::OutcomeUnknown, error.message)),
                None => Ok(response.token),
            }
        }),
    };
    match token {
        Ok(token) => (Outcome::Acknowledged(now()), Some(token), "done".to_owned()),
        Err(error) => (Outcome::Unknown, None, error.kind.label().to_owned()),
    }
}
