//! History and Explain: what storage holds, and why an answer is what it is.

use std::sync::Arc;

use seen_api::Span;
use seen_api::trace::NAMESPACE;
use seen_filter::history::{Page, PageRequest, Question, RecentRequest, Row};
use seen_filter::packed::PackedIds;
use seen_filter::state::{BLOOM_PROBES, LayerForm, LayerInfo};
use seen_filter::{
    CommitStamp, Kind, NamespaceId, SnapshotId, StoreError, Tick, UnixMillis, UserId,
};
use seen_proto::model::{ExplainCall, HistoryCall, HistoryOrder, PageCursor, Quality};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::{self, DegradedReason};
use tokio::sync::oneshot;

use super::filter::reason_of;
use super::traced::{checking, ended};
use super::{sound, write_error};
use crate::metrics::Call;
use crate::replica::Replica;
use crate::rules::{
    Candidates, Checked, Claim, EntryState, EntryView, Input, Outcome, Read, ReadAnswer,
};
use crate::storage::{CheckJob, ListJob, ListRequest, queue_error};

/// Rows looked through for one page when time or kind sift them.
const SIFTED_ROWS_MAX: usize = 10_000;

/// One item as a request's candidates.
struct Single {
    kind: Kind,
    id: [u8; 8],
}

impl Candidates for Single {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        if let Ok(ids) = PackedIds::new(&self.id) {
            each(self.kind, ids);
        }
    }
}

impl Replica {
    /// One page of a history.
    ///
    /// # Errors
    /// [`ApiError`]: unknown namespace, no time index, or storage's own.
    pub async fn history(
        self: &Arc<Self>,
        call: HistoryCall,
        deadline: Tick,
        span: &Span,
    ) -> Result<v1::HistoryResponse, ApiError> {
        span.note(NAMESPACE, || call.namespace.clone());
        let namespace = NamespaceId::new(self.named(&call.namespace)? as u16);
        let began = self.ticker.now();
        let answer_by = self.answer_by(began, deadline);
        let sifted = call.kind.is_some() || call.until.is_some() || call.from.get() > 0;
        // Sifting by key looks at more rows than it returns.
        let rows_max = match (call.order, sifted) {
            (HistoryOrder::Key, true) => SIFTED_ROWS_MAX,
            _ => call.rows_max,
        };
        let request = list_request(namespace, &call, rows_max);
        let waits = span.child("storage.list");
        let page = self.list(request, answer_by).await;
        ended(&waits, page.as_ref().err());
        let page = page.map_err(write_error)?;
        self.metrics.answered(Call::History, self.ticker.now().since_us(began));
        Ok(listed(&call, &page))
    }

    async fn list(&self, request: ListRequest, answer_by: Tick) -> Result<Page, StoreError> {
        let (reply, answer) = oneshot::channel();
        let (namespace, user) = request.of();
        let job = ListJob { request, deadline: answer_by, reply };
        let shard = self.feed.feed_of(namespace, user).shard;
        self.queues.lists.try_send(shard, job).map_err(|error| queue_error(&error, "listings"))?;
        self.within(answer_by, answer).await
    }

    /// Why an item is filtered, or not. Builds nothing.
    ///
    /// # Errors
    /// [`ApiError`]: unknown namespace, or a token that is none.
    pub async fn explain(
        self: &Arc<Self>,
        call: ExplainCall,
        deadline: Tick,
        span: &Span,
    ) -> Result<v1::ExplainResponse, ApiError> {
        span.note(NAMESPACE, || call.namespace.clone());
        let namespace = self.named(&call.namespace)?;
        let claims = self.claims(&call.token)?;
        let began = self.ticker.now();
        let answer_by = self.answer_by(began, deadline);
        let single = Single { kind: call.item.kind, id: call.item.id.get().to_le_bytes() };
        let read = Read {
            user: call.user,
            claims: &claims,
            candidates: &single,
            confirm: false,
            build: false,
        };
        let Outcome::Answer(answer) = self.step(namespace, began, Input::Read(read)) else {
            return Err(ApiError::new(ErrorKind::Internal, "a read was not answered; report this"));
        };
        let waits = checking(span, answer.doubt, 1);
        let question = Question { user: call.user, items: vec![call.item] };
        let stored = self.stored(namespace, question, answer_by, &waits).await;
        ended(&waits, stored.as_ref().err());
        let (would_show, quality) = self.verdict(namespace, &call, &answer, (began, &stored));
        let rules = &self.namespaces[namespace].rules;
        let view = rules.entry(call.user, Some(call.item));
        self.metrics.answered(Call::Explain, self.ticker.now().since_us(began));
        Ok(v1::ExplainResponse {
            would_show,
            quality: Some(quality.into()),
            storage: Some(storage_view(&stored)),
            feed: Some(self.feed_view(namespace, call.user)),
            token_elements_uncovered: self.uncovered(namespace, call.user, &claims),
            entry: Some(entry_view(&view)),
            configured_false_positive_rate: rules.settings().namespace.false_positive_rate,
        })
    }

    async fn stored(
        &self,
        namespace: usize,
        question: Question,
        deadline: Tick,
        waits: &Span,
    ) -> Result<(bool, SnapshotId), StoreError> {
        let (reply, answer) = oneshot::channel();
        let (user, questions, span) = (question.user, vec![question], waits.clone());
        let job = CheckJob { namespace, questions, may_be_late: false, deadline, span, reply };
        let sent = self.queues.checks.try_send(self.shard_of(namespace, user), job);
        sent.map_err(|error| queue_error(&error, "point checks"))?;
        let answers = self.within(deadline, answer).await?;
        let found = answers.found.first().and_then(|found| found.first()).copied();
        Ok((found.unwrap_or(false), answers.snapshot))
    }

    /// What Filter would answer.
    fn verdict(
        &self,
        namespace: usize,
        call: &ExplainCall,
        answer: &ReadAnswer,
        (asked, stored): (Tick, &Result<(bool, SnapshotId), StoreError>),
    ) -> (bool, Quality) {
        let rate = if answer.exact { 0.0 } else { answer.rate };
        let Some(doubt) = answer.doubt.filter(|_| !answer.ask.is_empty()) else {
            return (!answer.seen.get(0), sound(rate));
        };
        match stored {
            Err(error) => {
                let reason = reason_of(error, doubt);
                (true, Quality::Degraded { rate, reason, unknown: 1 })
            }
            Ok((found, snapshot)) => {
                let checked = Checked {
                    user: call.user,
                    items: &[call.item],
                    found: &[*found],
                    snapshot: *snapshot,
                    asked,
                };
                let now = self.ticker.now();
                match self.step(namespace, now, Input::Checked(checked)) {
                    Outcome::Decided { seen, contested: false } => (!seen.get(0), Quality::Exact),
                    Outcome::Decided { seen, contested: true } => {
                        let reason = DegradedReason::Contested;
                        (!seen.get(0), Quality::Degraded { rate, reason, unknown: 0 })
                    }
                    _ => (true, Quality::Exact),
                }
            }
        }
    }

    /// How many claims would send a Filter to storage.
    fn uncovered(&self, namespace: usize, user: UserId, claims: &[Claim]) -> u32 {
        self.namespaces[namespace].rules.uncovered_claims(user, claims) as u32
    }

    fn feed_view(&self, namespace: usize, user: UserId) -> v1::FeedView {
        let feed = self.feed.feed_of(NamespaceId::new(namespace as u16), user);
        let now = self.ticker.now();
        let lanes = self.namespaces[namespace].rules.lanes(now);
        let lane = lanes.into_iter().find(|lane| lane.feed == feed);
        feed_view(feed, lane.as_ref())
    }
}

pub(super) fn feed_view(
    feed: seen_filter::FeedId,
    lane: Option<&crate::rules::LaneView>,
) -> v1::FeedView {
    v1::FeedView {
        shard: u32::from(feed.shard.get()),
        partition: u32::from(feed.partition.get()),
        cover: lane.and_then(|lane| lane.cover).map(stamp),
        fresh_ms_ago: lane.filter(|lane| lane.following).map(|lane| lane.quiet_us / 1_000),
        epoch: lane.map_or(0, |lane| u32::from(lane.epoch.get())),
    }
}

fn list_request(namespace: NamespaceId, call: &HistoryCall, rows_max: usize) -> ListRequest {
    match call.order {
        HistoryOrder::Key => ListRequest::Key(PageRequest {
            namespace,
            user: call.user,
            after: match call.after {
                Some(PageCursor::Key(item)) => Some(item),
                _ => None,
            },
            rows_max,
        }),
        HistoryOrder::NewestFirst => ListRequest::Recent(RecentRequest {
            namespace,
            user: call.user,
            before: match call.after {
                Some(PageCursor::Recent(at, item)) => Some((at, item)),
                _ => None,
            },
            from: call.from,
            until: call.until.unwrap_or(UnixMillis::new(u64::MAX)),
            rows_max,
        }),
    }
}

/// Sifts a page and says where the next one begins.
fn listed(call: &HistoryCall, page: &Page) -> v1::HistoryResponse {
    let wanted = |row: &Row| {
        row.marked_at >= call.from
            && call.until.is_none_or(|until| row.marked_at < until)
            && call.kind.is_none_or(|kind| row.item.kind == kind)
    };
    let mut rows = Vec::new();
    let mut cut_at = None;
    for row in &page.rows {
        if rows.len() == call.rows_max {
            break;
        }
        cut_at = Some(row);
        if wanted(row) {
            rows.push(v1::HistoryRow {
                kind: u32::from(row.item.kind.get()),
                id: row.item.id.get(),
                marked_at_ms: row.marked_at.get(),
            });
        }
    }
    let whole = cut_at == page.rows.last();
    let next = cut_at.filter(|_| !(page.last && whole)).map(|row| match call.order {
        HistoryOrder::Key => PageCursor::Key(row.item),
        HistoryOrder::NewestFirst => PageCursor::Recent(row.marked_at, row.item),
    });
    v1::HistoryResponse {
        rows,
        next_page_token: next.map(|cursor| call.next_page_token(cursor)).unwrap_or_default(),
        rows_read: page.rows.len() as u32,
    }
}

fn storage_view(stored: &Result<(bool, SnapshotId), StoreError>) -> v1::StorageView {
    match stored {
        Ok((found, snapshot)) => v1::StorageView {
            presence: presence(Some(*found)).into(),
            message: String::new(),
            primary: format!("{:016x}", snapshot.primary.get()),
            snapshot: snapshot.lower_bound.map(stamp),
        },
        Err(error) => v1::StorageView {
            presence: v1::Presence::Unknown.into(),
            message: error.message.clone(),
            primary: String::new(),
            snapshot: None,
        },
    }
}

pub(super) fn entry_view(view: &EntryView) -> v1::EntryView {
    let state = match view.state {
        EntryState::Absent => v1::EntryState::Absent,
        EntryState::Building => v1::EntryState::Building,
        EntryState::Ready | EntryState::Dirty => v1::EntryState::Ready,
    };
    v1::EntryView {
        state: state.into(),
        presence: presence(view.says_seen).into(),
        generation: view.generation.get(),
        dirty: view.state == EntryState::Dirty,
        items: view.items,
        bytes: view.heap_bytes as u64,
        layers: view.layers.iter().map(layer_view).collect(),
        false_positive_rate: view.estimated_rate,
        build: view.cover.map(stamp),
        journaled: view.journaled,
        contested: view.contested,
        user_epoch: view.user_epoch.get(),
    }
}

fn layer_view(layer: &LayerInfo) -> v1::LayerView {
    let (form, probes) = match layer.form {
        LayerForm::Exact => (v1::LayerForm::Exact, 0),
        LayerForm::Bloom => (v1::LayerForm::Bloom, BLOOM_PROBES),
    };
    v1::LayerView {
        form: form.into(),
        items: layer.items,
        bits: layer.bytes as u64 * 8,
        probes,
        false_positive_rate: layer.current_rate,
    }
}

fn presence(there: Option<bool>) -> v1::Presence {
    match there {
        Some(true) => v1::Presence::Present,
        Some(false) => v1::Presence::Absent,
        None => v1::Presence::Unknown,
    }
}

pub(super) fn stamp(stamp: CommitStamp) -> v1::Stamp {
    v1::Stamp {
        domain: stamp.domain.get(),
        timeline: stamp.timeline.get(),
        position: stamp.position,
    }
}
