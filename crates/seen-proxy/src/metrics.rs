//! What a proxy counts.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use seen_api::Call;
use seen_cluster::link::NotSent;
use seen_filter::{MetricInfo, MetricUnit};
use seen_proto::status::ErrorKind;

use crate::breaker::BreakerState;
use crate::health::Health;
use crate::limit::Class;
use crate::outlier::OutlierReason;

/// Requests.
const REQUESTS: MetricInfo = MetricInfo::counter(
    "seen_proxy_requests_total",
    MetricUnit::Count,
    "Requests that a proxy let in; call is filter, filter_users, mark, unmark, forget, history or explain.",
);
/// What was sent to replicas.
const ATTEMPTS: MetricInfo = MetricInfo::counter(
    "seen_proxy_attempts_total",
    MetricUnit::Count,
    "Requests sent to replicas; why is first, hedge (the first replica takes long), again (it failed, or could not reach storage) or emergency (sent to a replica of another slot, or to one that is not ready).",
);
/// What was not sent.
const NOT_SENT: MetricInfo = MetricInfo::counter(
    "seen_proxy_not_sent_total",
    MetricUnit::Count,
    "Requests that a link did not take; reason is closed, no_credit, draining, full or too_large.",
);
/// The proxy's own answers.
const OWN_ANSWERS: MetricInfo = MetricInfo::counter(
    "seen_proxy_own_answers_total",
    MetricUnit::Count,
    "Filters that no replica answered in time, and that the proxy answered itself, flagged; reason is deadline, unreachable or overloaded.",
);
/// Errors.
const ERRORS: MetricInfo = MetricInfo::counter(
    "seen_proxy_errors_total",
    MetricUnit::Count,
    "Requests that ended with an error, a replica's or the proxy's own; kind as in the errors' table, in lower case.",
);
/// What was refused for want of room.
const SHED: MetricInfo = MetricInfo::counter(
    "seen_proxy_shed_total",
    MetricUnit::Count,
    "Requests refused at once; class is feed, push or offline, reason is limit (too much under way) or rate (proxy.rates).",
);
/// Claims for moved users.
const MOVED: MetricInfo = MetricInfo::counter(
    "seen_proxy_moved_total",
    MetricUnit::Count,
    "Reads without a token that were sent with a claim, since the user was moved to another replica lately.",
);
/// Repeats that the budget did not allow.
const BUDGET_SPENT: MetricInfo = MetricInfo::counter(
    "seen_proxy_budget_spent_total",
    MetricUnit::Count,
    "Repeats and hedges that were left out since proxy.extra_share was spent.",
);
/// Answers for nobody.
const LATE_ANSWERS: MetricInfo = MetricInfo::counter(
    "seen_proxy_late_answers_total",
    MetricUnit::Count,
    "Answers of replicas that nobody waited for any more, such as those that lost against a hedge.",
);
/// Outliers.
const EJECTIONS: MetricInfo = MetricInfo::counter(
    "seen_proxy_ejections_total",
    MetricUnit::Count,
    "Times that a replica was left out for being far worse than the others of its slot; reason is failures or slow.",
);
/// Mismatched replicas.
const MISMATCHES: MetricInfo = MetricInfo::counter(
    "seen_proxy_mismatches_total",
    MetricUnit::Count,
    "Connections to a replica that is not who the map says, or that refused this proxy; reason is cluster, pool, slot, hash, settings or refused.",
);
/// Replicas by health.
const REPLICAS: MetricInfo = MetricInfo::gauge(
    "seen_proxy_replicas_count",
    MetricUnit::Count,
    "Replicas that the proxy's threads know, each thread's counted; state is up, suspect, unready, draining, ejected, refused or down.",
);
/// Replicas by breaker.
const BREAKERS: MetricInfo = MetricInfo::gauge(
    "seen_proxy_breakers_count",
    MetricUnit::Count,
    "Breakers of replicas, each thread's counted; state is closed, open or half_open.",
);
/// In flight.
const IN_FLIGHT: MetricInfo = MetricInfo::gauge(
    "seen_proxy_in_flight_count",
    MetricUnit::Count,
    "Requests that wait for replicas, of all threads.",
);
/// The adaptive limit.
const LIMIT: MetricInfo = MetricInfo::gauge(
    "seen_proxy_limit_count",
    MetricUnit::Count,
    "How much may be under way at once, of all threads; push may use 70 of 100, offline 40.",
);
/// Latency by replica.
const REPLICA_SECONDS: MetricInfo = MetricInfo::histogram(
    "seen_proxy_replica_duration_seconds",
    MetricUnit::Seconds,
    "Time from sending a Filter to a replica until its answer, flagged ones and errors apart, by replica; one of 16 is measured.",
);

/// The metrics of a proxy.
pub const METRICS: &[MetricInfo] = &[
    REQUESTS,
    ATTEMPTS,
    NOT_SENT,
    OWN_ANSWERS,
    ERRORS,
    SHED,
    MOVED,
    BUDGET_SPENT,
    LATE_ANSWERS,
    EJECTIONS,
    MISMATCHES,
    REPLICAS,
    BREAKERS,
    IN_FLIGHT,
    LIMIT,
    REPLICA_SECONDS,
];

/// Why a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    First,
    Hedge,
    Again,
    Emergency,
}

impl Why {
    const ALL: [(Self, &'static str); 4] = [
        (Self::First, "first"),
        (Self::Hedge, "hedge"),
        (Self::Again, "again"),
        (Self::Emergency, "emergency"),
    ];

    /// A short stable name.
    pub fn label(self) -> &'static str {
        label(&Self::ALL, self)
    }
}

/// Why the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Deadline,
    Unreachable,
    Overloaded,
}

impl Own {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Deadline, "deadline"),
        (Self::Unreachable, "unreachable"),
        (Self::Overloaded, "overloaded"),
    ];

    /// A short stable name.
    pub fn label(self) -> &'static str {
        label(&Self::ALL, self)
    }
}

fn label<T: PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter().find(|(known, _)| *known == value).map_or("", |(_, label)| label)
}

/// Counters by a label with few values, found by the value's place.
fn by_label<T: Copy>(
    info: &MetricInfo,
    label: &'static str,
    all: impl IntoIterator<Item = (T, &'static str)>,
) -> Vec<(T, Counter)> {
    all.into_iter().map(|(value, name)| (value, counter!(info.name, label => name))).collect()
}

fn count<T: PartialEq>(counters: &[(T, Counter)], value: &T) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| known == value) {
        counter.increment(1);
    }
}

/// The metrics of one thread's proxy.
pub(crate) struct Metrics {
    requests: Vec<(Call, Counter)>,
    attempts: Vec<(Why, Counter)>,
    not_sent: Vec<(NotSent, Counter)>,
    own: Vec<(Own, Counter)>,
    errors: Vec<(ErrorKind, Counter)>,
    shed: Vec<((Class, bool), Counter)>,
    ejections: Vec<(OutlierReason, Counter)>,
    replicas: Vec<(Health, Gauge)>,
    breakers: Vec<(BreakerState, Gauge)>,
    pub moved: Counter,
    pub budget_spent: Counter,
    pub late_answers: Counter,
    in_flight: Changing,
    limit: Changing,
}

impl Metrics {
    pub fn new() -> Self {
        let shed = Class::ALL.iter().flat_map(|class| {
            [(true, "rate"), (false, "limit")].map(|(by_rate, reason)| {
                let labels = [("class", class.label()), ("reason", reason)];
                ((*class, by_rate), counter!(SHED.name, &labels))
            })
        });
        let reasons = [OutlierReason::Failures, OutlierReason::Slow];
        Self {
            requests: by_label(&REQUESTS, "call", Call::ALL.map(|call| (call, call.label()))),
            attempts: by_label(&ATTEMPTS, "why", Why::ALL),
            not_sent: by_label(&NOT_SENT, "reason", NotSent::ALL.map(|why| (why, why.label()))),
            own: by_label(&OWN_ANSWERS, "reason", Own::ALL),
            errors: by_label(&ERRORS, "kind", ErrorKind::ALL.map(|kind| (kind, kind.label()))),
            shed: shed.collect(),
            ejections: by_label(&EJECTIONS, "reason", reasons.map(|why| (why, why.label()))),
            replicas: Health::ALL
                .map(|state| (state, gauge!(REPLICAS.name, "state" => state.label())))
                .into(),
            breakers: BreakerState::ALL
                .map(|state| (state, gauge!(BREAKERS.name, "state" => state.label())))
                .into(),
            moved: counter!(MOVED.name),
            budget_spent: counter!(BUDGET_SPENT.name),
            late_answers: counter!(LATE_ANSWERS.name),
            in_flight: Changing::new(gauge!(IN_FLIGHT.name)),
            limit: Changing::new(gauge!(LIMIT.name)),
        }
    }

    pub fn request(&self, call: Call) {
        count(&self.requests, &call);
    }

    pub fn attempt(&self, why: Why) {
        count(&self.attempts, &why);
    }

    pub fn not_sent(&self, why: NotSent) {
        count(&self.not_sent, &why);
    }

    pub fn own(&self, why: Own) {
        count(&self.own, &why);
    }

    pub fn error(&self, kind: ErrorKind) {
        count(&self.errors, &kind);
    }

    pub fn shed(&self, class: Class, by_rate: bool) {
        count(&self.shed, &(class, by_rate));
    }

    pub fn ejected(&self, why: OutlierReason) {
        count(&self.ejections, &why);
    }

    /// A replica's state changed; `None` = it came or went.
    pub fn health(&self, before: Option<Health>, after: Option<Health>) {
        for (state, gauge) in &self.replicas {
            step(gauge, before == Some(*state), after == Some(*state));
        }
    }

    /// The same for its breaker.
    pub fn breaker(&self, before: Option<BreakerState>, after: Option<BreakerState>) {
        for (state, gauge) in &self.breakers {
            step(gauge, before == Some(*state), after == Some(*state));
        }
    }

    pub fn load(&mut self, in_flight: usize, limit: u64) {
        self.in_flight.set(in_flight as f64);
        self.limit.set(limit as f64);
    }
}

fn step(gauge: &Gauge, before: bool, after: bool) {
    match (before, after) {
        (false, true) => gauge.increment(1.0),
        (true, false) => gauge.decrement(1.0),
        _ => {}
    }
}

/// A gauge to which each thread adds its part.
struct Changing {
    gauge: Gauge,
    part: f64,
}

impl Changing {
    const fn new(gauge: Gauge) -> Self {
        Self { gauge, part: 0.0 }
    }

    fn set(&mut self, value: f64) {
        self.gauge.increment(value - self.part);
        self.part = value;
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.gauge.decrement(self.part);
    }
}

/// A replica is not who it should be.
pub(crate) fn mismatch(reason: &'static str) {
    counter!(MISMATCHES.name, "reason" => reason).increment(1);
}

/// The times of one replica's answers.
pub(crate) fn replica_seconds(name: &str) -> Histogram {
    histogram!(REPLICA_SECONDS.name, "replica" => name.to_owned())
}
