//! The real binary, killed and terminated: every acknowledged mark is there afterwards, and a drain
//! answers what runs.

#[path = "api/ask.rs"]
#[allow(dead_code, reason = "shared with the API's tests, which use all of it")]
mod ask;
#[path = "api/process.rs"]
#[allow(dead_code, reason = "shared with the tests of real servers, which use all of it")]
mod process;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use seen_client::{
    BatcherOptions, Client, ClientOptions, FilterCall, FilterStreamOptions, MarkCall, Session,
};
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_proto::v1::{self, MarkStreamRequest, mark_stream_response};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use ask::{Caller, PATIENCE, PATIENCE_MS, READ, filter, history, mark, patient, sound};
use process::{Process, connect};

/// How often the process is killed.
const ROUNDS: u64 = 20;
/// Clients that mark at the same time, each for a user of its own.
const CLIENTS: u64 = 8;
/// Acknowledged calls of a round after which it is killed.
const ACKNOWLEDGED: usize = 250;
/// Items of one call.
const ITEMS: u64 = 5;

/// The items of one client's n-th call in a round.
fn items(round: u64, n: u64) -> std::ops::Range<u64> {
    let first = (round << 32) | (n * ITEMS);
    first..first + ITEMS
}

/// Marks without a pause until the process is gone; the items of the acknowledged calls.
async fn client(
    channel: Channel,
    (round, user): (u64, u64),
    acknowledged: &watch::Sender<usize>,
) -> Vec<u64> {
    let mut api = SeenServiceClient::new(channel);
    let mut safe = Vec::new();
    let mut token = Vec::new();
    for n in 0.. {
        let request = v1::MarkRequest { token, ..mark(user, READ, items(round, n)) };
        match api.mark(patient(request)).await {
            Ok(answer) => token = answer.into_inner().token,
            // Killed in the middle: this call's outcome is open.
            Err(_) => break,
        }
        safe.extend(items(round, n));
        acknowledged.send_modify(|calls| *calls += 1);
    }
    safe
}

/// How a round ends.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Terminate,
}

/// Lets the clients mark until enough is acknowledged, ends the process in the middle of it, and says
/// what each user's acknowledged items are.
async fn round(process: Process, round: u64, end: End) -> Vec<Vec<u64>> {
    let (acknowledged, mut calls) = watch::channel(0);
    let mut channels = Vec::new();
    for _ in 0..CLIENTS {
        channels.push(connect(process.at.api).await);
    }
    let clients = channels.into_iter().zip(0..);
    let marks =
        join_all(clients.map(|(channel, user)| client(channel, (round, user), &acknowledged)));
    let kill = async {
        calls.wait_for(|calls| *calls >= ACKNOWLEDGED).await.expect("the clients live");
        match end {
            End::Kill => process.kill().await,
            End::Terminate => assert_eq!(process.terminate().await, Some(0)),
        }
    };
    tokio::join!(marks, kill).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_mark_survives_twenty_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut safe: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); CLIENTS as usize];
    let mut last: Vec<Vec<u64>> = vec![Vec::new(); CLIENTS as usize];
    for number in 0..ROUNDS {
        let process = Process::start(folder.path(), &[]).await;
        let mut api = Caller(SeenServiceClient::new(connect(process.at.api).await));
        for (user, ids) in (0..).zip(&last) {
            for ids in ids.chunks(1_000) {
                let ask = filter(user, &[READ], ids.iter().copied());
                let answer = api.filter(v1::FilterRequest { confirm: true, ..ask }).await;
                assert_eq!(sound(&answer), [0_u32; 0], "user {user} after kill {number}");
            }
        }
        last = round(process, number, End::Kill).await;
        for (safe, last) in safe.iter_mut().zip(&last) {
            safe.extend(last);
        }
    }
    let process = Process::start(folder.path(), &[]).await;
    let mut api = Caller(SeenServiceClient::new(connect(process.at.api).await));
    let mut rows = 0;
    for (user, safe) in (0..).zip(&safe) {
        let request = v1::HistoryRequest { page_size: 1_000, ..history(user, READ) };
        let held: BTreeSet<u64> =
            api.pages(request).await.concat().iter().map(|row| row.id).collect();
        let lost: Vec<_> = safe.difference(&held).collect();
        assert!(lost.is_empty(), "user {user} lost {lost:?}");
        // What was not acknowledged may be there, but whole calls only, and nothing else.
        let open: Vec<_> = held.difference(safe).collect();
        assert!(
            open.len() as u64 <= ROUNDS * ITEMS && (open.len() as u64).is_multiple_of(ITEMS),
            "{open:?}"
        );
        rows += safe.len();
    }
    assert!(rows as u64 >= ROUNDS * ACKNOWLEDGED as u64 * ITEMS, "{rows} acknowledged rows");
    drop(api);
    let code = process.terminate().await;
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_mark_survives_a_drain() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..3 {
        let process = Process::start(folder.path(), &[]).await;
        let safe = round(process, number, End::Terminate).await;
        let process = Process::start(folder.path(), &[]).await;
        let mut api = Caller(SeenServiceClient::new(connect(process.at.api).await));
        for (user, ids) in (0..).zip(&safe) {
            for ids in ids.chunks(1_000) {
                assert_eq!(api.unread(user, READ, ids).await, [0_u64; 0], "user {user}");
            }
        }
        drop(api);
        assert_eq!(process.terminate().await, Some(0));
    }
}

/// A stream of marks that is open, and its answers.
async fn open_stream(
    channel: Channel,
) -> (mpsc::Sender<MarkStreamRequest>, tonic::Streaming<v1::MarkStreamResponse>) {
    let (ask, asked) = mpsc::channel(1);
    let mut api = SeenServiceClient::new(channel);
    let answers = api.mark_stream(ReceiverStream::new(asked)).await.expect("opened").into_inner();
    (ask, answers)
}

/// Marks one item over a stream.
async fn mark_over(
    (ask, answers): &mut (
        mpsc::Sender<MarkStreamRequest>,
        tonic::Streaming<v1::MarkStreamResponse>,
    ),
    id: u64,
) {
    let mark = Some(mark(1, READ, [id]));
    let request = MarkStreamRequest { request_id: id, mark, timeout_ms: PATIENCE_MS };
    ask.send(request).await.expect("open");
    let answer = answers.message().await.expect("answered").expect("open");
    let marked = matches!(answer.result, Some(mark_stream_response::Result::Mark(_)));
    assert!(answer.request_id == id && marked, "{answer:?}");
}

#[tokio::test]
async fn sigterm_answers_what_runs_and_ends_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(folder.path(), &["--set", "server.drain=50s"]).await;
    let mut stream = open_stream(connect(process.at.api).await).await;
    mark_over(&mut stream, 1).await;
    process.signal("-TERM");
    process.draining().await;
    // A call that was running is answered to its end, also what it asks only now.
    mark_over(&mut stream, 2).await;
    let to = process.at.api;
    let again = Channel::from_shared(format!("http://{to}")).expect("an address").connect().await;
    assert!(again.is_err(), "nothing new is taken");
    let (ask, mut answers) = stream;
    drop(ask);
    assert!(answers.message().await.expect("answered").is_none(), "the stream ended well");
    assert_eq!(process.exit().await, Some(0));

    let process = Process::start(folder.path(), &[]).await;
    let mut api = Caller(SeenServiceClient::new(connect(process.at.api).await));
    assert_eq!(api.unread(1, READ, &[1, 2, 3]).await, [3]);
    drop(api);
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off_at_the_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(folder.path(), &["--set", "server.drain=100ms"]).await;
    let mut stream = open_stream(connect(process.at.api).await).await;
    mark_over(&mut stream, 1).await;
    process.signal("-TERM");
    // The stream stays open: without the bound this would not end.
    let ended = tokio::time::timeout(Duration::from_secs(60), process.exit()).await;
    assert_eq!(ended.expect("it ends"), Some(0));
    let (_ask, mut answers) = stream;
    assert!(answers.message().await.is_err(), "the caller is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_or_killed_process_leaves_no_client_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(folder.path(), &[]).await;
    let client = Client::new(ClientOptions::new(process.at.api.to_string())).expect("valid");
    let session = Session::new(1);
    let batcher = client.mark_batcher(BatcherOptions::default()).expect("valid");
    let (asks, mut replies) = client.filter_stream(FilterStreamOptions::default()).expect("valid");
    let filter = |allowed| FilterCall::new(READ).items(1, [1]).timeout(allowed);
    let mark = |allowed| MarkCall::new(READ).item(1, 1).timeout(allowed);
    let short = Duration::from_millis(200);
    // Everything is open before the process stops.
    batcher.mark(&session, mark(PATIENCE)).await.expect("room").await.expect("marked");
    asks.ask(1, &session, filter(PATIENCE)).await.expect("room");
    replies.next().await.expect("a reply").answer.expect("answered");
    for end in ["-STOP", "-KILL"] {
        process.signal(end);
        // A signal takes a moment to arrive.
        while client.filter(&session, filter(short)).await.is_ok() {}
        let ticket = batcher.mark(&session, mark(short)).await.expect("room");
        asks.ask(2, &session, filter(short)).await.expect("room");
        // Which error it is depends on what the machine noticed first; that there is one does not.
        let all = async {
            client.mark(&session, mark(short)).await.expect_err("nobody answers");
            replies.next().await.expect("a reply").answer.expect_err("nobody answers");
            ticket.await.expect_err("nobody answers");
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all return, long before this");
    }
    batcher.close().await;
    assert_eq!(process.exit().await, None, "a signal ended it");
}
