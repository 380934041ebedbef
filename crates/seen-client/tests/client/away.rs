//! No call outlives its deadline, in whatever way the service is away: refusing, silent from the start,
//! stopped in the middle, or killed.

use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use seen_client::{
    Admin, ApiError, BatcherOptions, Client, ClientOptions, ErrorKind, ExplainCall, FilterCall,
    FilterStreamOptions, ForgetScope, HistoryCall, MarkCall, PushCall, Session, UnmarkCall,
};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::mock::{Stage, acknowledged, options};

/// What every call of these tests may take.
const ALLOWED: Duration = Duration::from_millis(400);
/// What a call may take beyond that: how often the batcher looks, and a timer's grain.
const MARGIN: Duration = Duration::from_millis(15);

type Call<'a> = (&'static str, Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send + 'a>>);

fn bounded() -> ClientOptions {
    let mut options = options();
    options.timeouts.filter = ALLOWED;
    options.timeouts.push = ALLOWED;
    options.timeouts.write = ALLOWED;
    options.timeouts.forget = ALLOWED;
    options.timeouts.look = ALLOWED;
    options
}

fn feed() -> FilterCall {
    FilterCall::new("feed_read").items(1, [10])
}

fn mark() -> MarkCall {
    MarkCall::new("feed_read").item(1, 10)
}

async fn over_a_stream(client: &Client, session: &Session) -> Result<(), ApiError> {
    let (asks, mut replies) = client.filter_stream(FilterStreamOptions::default()).expect("valid");
    asks.ask(1, session, feed()).await?;
    replies.next().await.expect("a reply").answer.map(drop)
}

async fn in_a_batch(client: &Client, session: &Session) -> Result<(), ApiError> {
    let bounds =
        BatcherOptions { timeout: ALLOWED, close_timeout: ALLOWED, ..BatcherOptions::default() };
    let batcher = client.mark_batcher(bounds).expect("valid");
    let ticket = batcher.mark(session, mark()).await?;
    batcher.close().await;
    ticket.await
}

fn named<'a>(
    name: &'static str,
    call: impl Future<Output = Result<(), ApiError>> + Send + 'a,
) -> Call<'a> {
    (name, Box::pin(call))
}

/// One call of each kind.
fn calls<'a>(client: &'a Client, session: &'a Session) -> Vec<Call<'a>> {
    let unmark = UnmarkCall::new("feed_read").items(1, [10]);
    let explain = ExplainCall { namespace: "feed_read".to_owned(), kind: 1, id: 10 };
    let push = PushCall::new("push_sent").items(1, [100]);
    let listing = HistoryCall::new("feed_read");
    vec![
        named("filter", async { client.filter(session, feed()).await.map(drop) }),
        named("mark", client.mark(session, mark())),
        named("unmark", client.unmark(session, unmark)),
        named("forget", async {
            client.forget(session, ForgetScope::AllNamespaces).await.map(drop)
        }),
        named("history", async { client.history(5, listing).await.map(drop) }),
        named("explain", async { client.explain(session, explain).await.map(drop) }),
        named("filter_users", async move { client.filter_users(&push, &[1, 2]).await.map(drop) }),
        named("filter_stream", over_a_stream(client, session)),
        named("mark_batcher", in_a_batch(client, session)),
    ]
}

/// Makes one call of each kind at the same time: each fails, none later than it may.
async fn all_fail_in_time(client: &Client, how: &str) {
    let (begin, session) = (Instant::now(), Session::new(5));
    let timed = calls(client, &session).into_iter().map(|(name, call)| async move {
        let outcome = tokio::time::timeout(10 * ALLOWED, call).await;
        let took = begin.elapsed();
        assert!(took <= ALLOWED + MARGIN, "{name} took {took:?} with a service that is {how}");
        let error = outcome.expect("within ten times as much").expect_err("nobody answered");
        let away = matches!(
            error.kind,
            ErrorKind::DeadlineExceeded | ErrorKind::Unavailable | ErrorKind::OutcomeUnknown
        );
        assert!(away, "{name} with a service that is {how}: {error:?}");
    });
    join_all(timed).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_connections_holds_nobody_up() {
    let stage = Stage::default();
    stage.close(true);
    all_fail_in_time(&stage.client(bounded()), "closed").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_connections_holds_nobody_up() {
    let stage = Stage::default();
    stage.disconnect(true);
    all_fail_in_time(&stage.client(bounded()), "unreachable").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_accepts_and_never_answers_holds_nobody_up() {
    let stage = Stage::default();
    stage.stall(true);
    all_fail_in_time(&stage.client(bounded()), "silent").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_in_the_middle_holds_nobody_up() {
    let stage = Stage::default();
    let client = stage.client(bounded());
    // The connection is open before the service stops.
    *stage.mock.on_mark.lock() = Some(Box::new(|_| Some(acknowledged(b""))));
    let batcher = client.mark_batcher(BatcherOptions::default()).unwrap();
    let ticket = batcher.mark(&Session::new(1), mark()).await;
    ticket.unwrap().await.unwrap();
    stage.stall(true);
    all_fail_in_time(&client, "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_killed_in_the_middle_holds_nobody_up() {
    let stage = Stage::default();
    let client = stage.client(bounded());
    let kill = async {
        stage.until(|mock| mock.filter.arrived().len() + mock.marks.lock().len() >= 2).await;
        stage.close(true);
        stage.cut();
    };
    tokio::join!(all_fail_in_time(&client, "killed"), kill);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_accepts_and_says_nothing_holds_nobody_up() {
    // The listener is bound and nobody takes from its backlog: what a stopped process looks like.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("bound").to_string();
    let options = ClientOptions { url: at, ..bounded() };
    all_fail_in_time(&Client::new(options.clone()).expect("valid"), "stopped").await;
    let connected = Client::connect(options.clone()).await.expect("the backlog takes it");
    all_fail_in_time(&connected, "stopped").await;
    let begin = Instant::now();
    let error = Admin::new(&options).expect("valid").status().await.expect_err("nobody answered");
    assert_eq!(
        (error.kind, begin.elapsed() <= ALLOWED + MARGIN),
        (ErrorKind::DeadlineExceeded, true)
    );
    drop(listener);
    all_fail_in_time(&Client::new(options.clone()).expect("valid"), "gone").await;
    assert!(Client::connect(options).await.is_err());
}
