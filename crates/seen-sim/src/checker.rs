//! What must hold once all is well again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seen_api::{Call, Span};
use seen_filter::{History, Item, NamespaceId, Question, UserId};
use seen_proto::message::{decode, encode};
use seen_proto::v1::{self, DegradedReason, UserAnswer};
use seen_proto::wire::FilterCall;
use seen_replica::Replica;
use seen_replica::service::Handled;
use seen_replica::service::filter::ReadMode;

use crate::caller::{KIND, READ_WITHIN, Said, filter_request, flag, is_exact};
use crate::ledger::Holds;
use crate::pushes::PUSH_ITEMS_MAX;
use crate::workload;
use crate::world::World;

/// Items that nobody ever marked, asked about for each user.
const STRANGERS: u64 = 40;
/// The number of the first of them.
const STRANGER: u64 = 1_000_000;
/// Unread items that may be called read, beside this share.
const FALSE_POSITIVES_FREE: u64 = 3;
/// Three times the rate of the namespace, in thousandths: a seed asks about few.
const FALSE_POSITIVES_PER_MILLE: u64 = 30;
/// So many of one user's items may be read by chance, beside that share: of 45 at 1 %, ten are in one of 10^10 users, and five in one of 10^4.
const BY_CHANCE_MAX: u64 = 8;

/// Items asked about at once.
const ITEMS_MAX: usize = 1_000;
/// What a late feed had in hand when it was mended comes by later, by 0.4 s at most, and what is behind it in pieces.
const ON_ITS_WAY_MAX: Duration = Duration::from_secs(1);

/// How long ago all was healed when it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InTheEnd {
    /// So long that nothing may be flagged any more.
    AllIsWell,
    /// One feed lag: no fence that was lost need have been followed by another one.
    AllIsHealed,
}

/// What storage holds of a user.
struct Stored {
    user: u64,
    /// All that was ever touched, and some that never was.
    ids: Vec<u64>,
    there: BTreeSet<u64>,
}

/// Checks what must hold in the end.
///
/// # Errors
/// The store in memory cannot be read: a fault of the simulation.
pub async fn check(world: &World, faultless: bool, end: InTheEnd) -> Result<(), String> {
    for user in workload::users() {
        let stored = stored(world, user).await?;
        check_storage(world, &stored);
        check_replicas(world, &stored).await;
        let proxies = world.callers.proxies.lock().len();
        for proxy in 0..proxies {
            check_answer(world, proxy, &stored, end).await;
        }
        if world.cluster.shape.push_replicas > 0 {
            check_push(world, user as usize % proxies.max(1), &stored).await;
        }
    }
    check_deadlines(world);
    let report = world.callers.report.lock().clone();
    let allowed = FALSE_POSITIVES_FREE + report.unread * FALSE_POSITIVES_PER_MILLE / 1_000;
    if report.false_positives > allowed {
        let (wrong, of) = (report.false_positives, report.unread);
        let what = format!("{wrong} of {of} unread items were called read; at most {allowed} may");
        world.callers.broken(None, 5, what);
    }
    let (flagged, errors) = (report.flagged - report.open, report.errors);
    if faultless && flagged + errors > 0 {
        let what = format!("without a fault {flagged} answers were flagged, {errors} errors");
        world.callers.broken(None, 6, what);
    }
    Ok(())
}

/// Row 38: what its caller gave up is not begun.
fn check_deadlines(world: &World) {
    for late in world.cluster.deadlines.late() {
        let (user, deed, items, by) = (late.user, late.deed, late.items, late.by);
        let what = format!("user {user}: {deed:?} {items:?} was begun {by:?} after its deadline");
        world.callers.broken(Some(user), 8, what);
    }
}

async fn stored(world: &World, user: u64) -> Result<Stored, String> {
    let mut ids = world.callers.ledger.lock().touched(user);
    ids.extend((0..STRANGERS).map(|n| STRANGER + n));
    let mut there = BTreeSet::new();
    for some in ids.chunks(seen_filter::history::ITEMS_PER_CALL_MAX) {
        let items = some.iter().map(|id| Item::new(KIND as u8, *id)).collect();
        let question = Question { user: UserId::new(user), items };
        let answers = world.cluster.store.check(NamespaceId::new(0), vec![question]).await;
        let answers = answers.map_err(|error| error.to_string())?;
        let found = answers.found.into_iter().flatten();
        there.extend(some.iter().zip(found).filter(|(_, found)| *found).map(|(id, _)| *id));
    }
    Ok(Stored { user, ids, there })
}

/// Promises 1 and 7: what was acknowledged is there, and what was forgotten is not.
fn check_storage(world: &World, stored: &Stored) {
    let user = stored.user;
    let mut wrong = Vec::new();
    let ledger = world.callers.ledger.lock();
    for id in &stored.ids {
        match (ledger.holds(user, *id), stored.there.contains(id)) {
            (Holds::Yes, false) => {
                wrong.push((1, format!("item {id}: an acknowledged mark is missing")))
            }
            (Holds::No { forgotten: true }, true) => {
                wrong.push((7, format!("item {id} was forgotten, and is in storage again")));
            }
            (Holds::No { forgotten: false }, true) => {
                wrong.push((1, format!("item {id} is in storage, and should not be")));
            }
            _ => {}
        }
    }
    drop(ledger);
    for (promise, what) in wrong {
        world.callers.broken(Some(user), promise, format!("user {user}, {what}"));
    }
}

/// Promises 3 and 5: what memory alone answers covers storage, and is no more than that where it says that it is exact.
async fn check_replicas(world: &World, stored: &Stored) {
    let ids: Vec<u64> = {
        let ledger = world.callers.ledger.lock();
        let fresh = stored.ids.iter().filter(|id| ledger.is_fresh(stored.user, **id));
        fresh.copied().collect()
    };
    let mut nodes = Vec::new();
    world.each_replica(|node| nodes.push((Arc::clone(&node.process), Arc::clone(&node.replica))));
    for (process, replica) in nodes {
        for ids in ids.chunks(ITEMS_MAX) {
            let body = encode(&filter_request(stored.user, &[], ids));
            let replica = Arc::clone(&replica);
            let answer = process.ask(move || from_memory(&replica, &body)).await;
            if let Some(response) = answer.flatten() {
                check_memory(world, &process.name, stored, ids, &response);
            }
        }
    }
}

/// What a replica answers without asking storage; that which it asks storage about is right.
fn from_memory(replica: &Arc<Replica>, body: &[u8]) -> Option<v1::FilterResponse> {
    let call = FilterCall::parse(body).ok()?;
    let deadline = replica.ticker().now().plus_us(READ_WITHIN.as_micros() as u64);
    let mut out = Vec::new();
    let mode = ReadMode::default();
    let handled = replica.filter_in(mode, &call, deadline, &Span::OFF, &mut out);
    let Ok(Handled::Written) = handled else { return None };
    decode::<v1::FilterResponse>(Bytes::from(out)).ok().filter(|response| flag(response).is_none())
}

fn check_memory(
    world: &World,
    name: &str,
    stored: &Stored,
    ids: &[u64],
    response: &v1::FilterResponse,
) {
    let unseen: BTreeSet<u64> =
        response.unseen.iter().filter_map(|at| ids.get(*at as usize)).copied().collect();
    let user = stored.user;
    let missed: Vec<&u64> = stored.there.intersection(&unseen).collect();
    if !missed.is_empty() {
        let what = format!("{name}: its memory of user {user} lacks {missed:?}");
        world.callers.broken(Some(user), 3, what);
    }
    let read = ids.iter().filter(|id| !unseen.contains(id));
    let wrong: Vec<&u64> = read.filter(|id| !stored.there.contains(id)).collect();
    if is_exact(response) && !wrong.is_empty() {
        let what = format!("{name}: its memory of user {user} is exact, and has {wrong:?}");
        world.callers.broken(Some(user), 5, what);
    }
}

/// Promises 2, 5, 6 and 7 for a reader without a token.
async fn check_answer(world: &World, proxy: usize, stored: &Stored, end: InTheEnd) {
    let user = stored.user;
    for ids in stored.ids.chunks(ITEMS_MAX) {
        let body = encode(&filter_request(user, &[], ids));
        let said = world.callers.call(proxy, Call::Filter, body, READ_WITHIN).await;
        let response = match said {
            Said::Answer(answer) => answer.and_then(decode::<v1::FilterResponse>),
            Said::Nothing => continue,
        };
        let response = match response {
            Ok(response) => match flag(&response) {
                None => response,
                // What came by late, and storage no longer shows: removed, or expired. Only time tells that it expired.
                Some(DegradedReason::Contested) if may_expire(world) => continue,
                Some(_) if end == InTheEnd::AllIsHealed => continue,
                Some(why) => {
                    let why = why.as_str_name();
                    let what = format!("user {user} at proxy {proxy}: flagged in the end, {why}");
                    world.callers.broken(Some(user), 6, what);
                    continue;
                }
            },
            Err(error) => {
                let what = format!("user {user} at proxy {proxy}: {error}");
                world.callers.broken(Some(user), 4, what);
                continue;
            }
        };
        let unseen: BTreeSet<u64> =
            response.unseen.iter().filter_map(|at| ids.get(*at as usize)).copied().collect();
        judge(world, &format!("user {user} at proxy {proxy}"), stored, ids, &unseen);
    }
}

/// Promises 2, 4, 6 and 7 where a pool of its own answers.
async fn check_push(world: &World, proxy: usize, stored: &Stored) {
    let user = stored.user;
    for ids in stored.ids.chunks(PUSH_ITEMS_MAX) {
        let rows = match world.callers.ask_for_users(proxy, &[user], ids).await {
            Ok(rows) => rows,
            Err(why) => {
                let what = format!("push, user {user} at proxy {proxy}: {why}");
                world.callers.broken(Some(user), 4, what);
                continue;
            }
        };
        for row in rows {
            match row.answer {
                UserAnswer::Exact | UserAnswer::Filtered => {
                    judge(
                        world,
                        &format!("push, user {user} at proxy {proxy}"),
                        stored,
                        ids,
                        &row.unseen,
                    );
                }
                UserAnswer::Degraded if may_expire(world) => {}
                why => {
                    let what = format!("push, user {user} at proxy {proxy}: {why:?} in the end");
                    world.callers.broken(Some(user), 6, what);
                }
            }
        }
    }
}

/// True if a row that came by during the last fault, or was on its way when it was over, may not have been here for as long as rows
/// are kept.
fn may_expire(world: &World) -> bool {
    let span_ms = world.cluster.shape.retention.map_or(0, |retention| retention.span_ms);
    let kept = Duration::from_millis(span_ms) + ON_ITS_WAY_MAX;
    world.cluster.calm.lasts().is_some_and(|calm| calm <= kept)
}

fn judge(world: &World, who: &str, stored: &Stored, ids: &[u64], unseen: &BTreeSet<u64>) {
    let user = stored.user;
    let ledger = world.callers.ledger.lock();
    let missed = stored.there.intersection(unseen).filter(|id| ledger.is_fresh(user, **id));
    let missed: Vec<u64> = missed.copied().collect();
    drop(ledger);
    if !missed.is_empty() {
        let what = format!("{who}: {missed:?} are unread, and in storage");
        world.callers.broken(Some(user), 2, what);
    }
    let ledger = world.callers.ledger.lock();
    // What has expired is called read until it is built anew.
    let absent = |id: &&u64| !stored.there.contains(id) && ledger.is_fresh(user, **id);
    let (mut unread, mut wrong) = (0, 0);
    let (mut forgotten, mut back) = (0, Vec::new());
    for id in ids.iter().filter(absent) {
        let seen = !unseen.contains(id);
        unread += 1;
        wrong += u64::from(seen);
        if ledger.holds(user, *id) == (Holds::No { forgotten: true }) {
            forgotten += 1;
            back.extend(seen.then_some(*id));
        }
    }
    drop(ledger);
    let mut report = world.callers.report.lock();
    report.unread += unread;
    report.false_positives += wrong;
    drop(report);
    let allowed = BY_CHANCE_MAX + forgotten * FALSE_POSITIVES_PER_MILLE / 1_000;
    if back.len() as u64 > allowed {
        let what = format!("{who}: {back:?} were forgotten, and are read");
        world.callers.broken(Some(user), 7, what);
    }
}
