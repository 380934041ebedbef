//! Single calls: deadlines, repeats, tokens, and a service that is away.

use std::time::Duration;

use seen_client::{
    Client, ClientOptions, ErrorKind, ExplainCall, FilterCall, ForgetScope, HistoryCall, MarkCall,
    Quality, Session, UnmarkCall, WhenAway, v1,
};
use seen_filter::{FeedId, Incarnation, NamespaceId, Partition, Shard};
use seen_proto::status::ApiError;
use seen_proto::token::{AckSeq, ClusterId, Element, Token, WriteClaim};
use tokio::time::Instant;
use tonic::Status;

use super::mock::{Reply, Stage, options};

const MS: Duration = Duration::from_millis(1);

fn feed() -> FilterCall {
    FilterCall::new("feed_read").items(1, [10, 11]).items(2, [12])
}

fn unseen(positions: &[u32]) -> Reply<v1::FilterResponse> {
    let quality = v1::Quality { level: v1::QualityLevel::Exact.into(), ..Default::default() };
    Reply::Answer(v1::FilterResponse {
        unseen: positions.to_vec(),
        quality: Some(quality),
        token: Vec::new(),
    })
}

fn token(incarnation: u64) -> Vec<u8> {
    let mut token = Token::new();
    let claim = WriteClaim {
        feed: FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(0)),
        incarnation: Incarnation::new(incarnation),
        seq: AckSeq::new(1),
        stamp: None,
    };
    token.add(Element::Write(claim), || unreachable!("one element fits"));
    let mut out = Vec::new();
    token.encode(ClusterId::new(1), &mut out);
    out
}

fn acknowledged(incarnation: u64) -> Reply<v1::MarkResponse> {
    Reply::Answer(v1::MarkResponse { token: token(incarnation) })
}

#[tokio::test(start_paused = true)]
async fn the_deadline_travels_as_a_header_and_is_kept_here_too() {
    let stage = Stage::default();
    let client = stage.client(options());
    let (begin, session) = (Instant::now(), Session::new(5));
    let error = client.filter(&session, feed().timeout(50 * MS)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    assert_eq!((Instant::now() - begin).as_millis(), 50);
    let arrived = stage.mock.filter.arrived();
    assert_eq!(arrived.len(), 1, "there was no time for another attempt");
    let sent = arrived[0].timeout.as_deref().expect("a grpc-timeout");
    let micros: u64 = sent.trim_end_matches(['u', 'n']).parse().expect("a number");
    let micros = if sent.ends_with('n') { micros / 1_000 } else { micros };
    assert!((49_000..=50_000).contains(&micros), "{sent}");
    assert_eq!(arrived[0].message.user, 5);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_time_ran_out_is_not_called_unwritten() {
    let stage = Stage::default();
    let client = stage.client(options());
    let mark = MarkCall::new("feed_read").item(1, 10);
    let error = client.mark(&Session::new(5), mark.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutcomeUnknown);
    assert_eq!(stage.mock.mark.arrived().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_are_repeated_where_the_table_says_so() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::new(5);
    let script = &stage.mock.filter;
    script.fails(ErrorKind::Draining).fails(ErrorKind::Draining).then(unseen(&[0, 2]));
    let answer = client.filter(&session, feed()).await.unwrap();
    assert_eq!((answer.unseen, answer.quality), (vec![0, 2], Quality::Exact));
    assert_eq!(script.arrived().len(), 3);
    script.fails(ErrorKind::UnknownNamespace);
    let error = client.filter(&session, feed()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownNamespace);
    assert_eq!(script.arrived().len(), 4, "the caller's fault is not repeated");
    script.fails(ErrorKind::Draining).fails(ErrorKind::Draining).fails(ErrorKind::Draining);
    let error = client.filter(&session, feed()).await.unwrap_err();
    assert_eq!((error.kind, script.arrived().len()), (ErrorKind::Draining, 7), "three attempts");
}

#[tokio::test(start_paused = true)]
async fn repeats_are_limited_to_a_share_of_all_calls() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::new(5);
    for _ in 0..1_000 {
        stage.mock.filter.fails(ErrorKind::Draining);
    }
    for _ in 0..200 {
        client.filter(&session, feed()).await.unwrap_err();
    }
    let attempts = stage.mock.filter.arrived().len();
    assert!(
        (200 + 10..=200 + 10 + 10).contains(&attempts),
        "{attempts}: one in twenty, and ten saved"
    );
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_service_is_away_is_the_callers_choice() {
    let stage = Stage::default();
    stage.close(true);
    let client = stage.client(options());
    let session = Session::new(5);
    let error = client.filter(&session, feed()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("cannot connect"), "{error}");
    let shown = client.filter(&session, feed().when_away(WhenAway::ShowAll)).await.unwrap();
    assert_eq!(shown.unseen, [0, 1, 2]);
    assert!(shown.is_flagged() && shown.fallback.is_some());
    let hidden = client.filter(&session, feed().when_away(WhenAway::HideAll)).await.unwrap();
    assert!(hidden.unseen.is_empty() && hidden.is_flagged());
    let unknown = matches!(hidden.quality, Quality::Degraded { unknown: 3, .. });
    assert!(unknown, "{:?}", hidden.quality);
    stage.close(false);
    stage.mock.filter.then(Reply::Fail(ApiError::invalid("user", "wrong").into()));
    let call = feed().when_away(WhenAway::ShowAll);
    let error = client.filter(&session, call.clone()).await.unwrap_err();
    assert_eq!(error.violations[0].field, "user", "a wrong request is never papered over");
    stage.mock.filter.then(unseen(&[]));
    let answer = client.filter(&session, call.clone()).await.unwrap();
    assert!(!answer.is_flagged() && answer.fallback.is_none(), "it came back");
}

#[tokio::test(start_paused = true)]
async fn a_session_carries_what_it_was_given() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::new(5);
    stage.mock.mark.then(acknowledged(1)).then(acknowledged(2));
    let mark = MarkCall::new("feed_read").item(1, 10).item_at(2, 12, 99);
    let (a, b) =
        tokio::join!(client.mark(&session, mark.clone()), client.mark(&session, mark.clone()));
    assert!(a.is_ok() && b.is_ok());
    stage.mock.filter.then(unseen(&[1]));
    client.filter(&session, feed()).await.unwrap();
    let sent = stage.mock.filter.arrived().pop().unwrap().message.token;
    let elements = Token::decode(&sent, ClusterId::new(1)).unwrap().elements().len();
    assert_eq!(elements, 2, "parallel writes are both carried (row 28)");
    let items = &stage.mock.mark.arrived()[0].message.items;
    assert_eq!((items[0].marked_at_ms, items[1].marked_at_ms), (None, Some(99)));
}

#[tokio::test(start_paused = true)]
async fn a_write_on_a_lost_connection_is_repeated_only_after_its_time() {
    let stage = Stage::default();
    let mut patient = options();
    patient.attempt_timeout = Some(200 * MS);
    let client = stage.client(patient);
    stage.mock.mark.then(Reply::Hang).then(acknowledged(1));
    let begin = Instant::now();
    let cut = async {
        stage.until(|mock| mock.mark.arrived().len() == 1).await;
        stage.cut();
    };
    let (session, mark) = (Session::new(5), MarkCall::new("feed_read").item(1, 10));
    let (outcome, ()) = tokio::join!(client.mark(&session, mark.clone()), cut);
    outcome.unwrap();
    let second = stage.mock.mark.arrived()[1].at - begin;
    assert!(second >= 200 * MS, "{second:?}: the first one may still have been running (row 38)");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_leaves_a_write_open_and_repeats_a_read() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::new(5);
    let cut = async |arrived: &dyn Fn() -> usize| {
        stage.until(|_| arrived() == 1).await;
        stage.cut();
    };
    let mark = MarkCall::new("feed_read").item(1, 10);
    let marks = || stage.mock.mark.arrived().len();
    let (outcome, ()) = tokio::join!(client.mark(&session, mark.clone()), cut(&marks));
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::OutcomeUnknown);
    stage.mock.filter.then(Reply::Hang).then(unseen(&[0]));
    let filters = || stage.mock.filter.arrived().len();
    let slow = feed().timeout(Duration::from_secs(1));
    let (outcome, ()) = tokio::join!(client.filter(&session, slow), cut(&filters));
    assert_eq!(outcome.unwrap().unseen, [0]);
    assert_eq!(filters(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_fit_its_question_is_refused() {
    let stage = Stage::default();
    let client = stage.client(options());
    for wrong in [&[0, 3][..], &[1, 1], &[2, 0]] {
        stage.mock.filter.then(unseen(wrong));
        let error = client.filter(&Session::new(5), feed()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal, "{wrong:?}");
    }
    stage.mock.filter.then(Reply::Answer(v1::FilterResponse::default()));
    let answer = client.filter(&Session::new(5), feed()).await.unwrap();
    assert!(answer.is_flagged(), "no word about quality is no promise");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lost_part_of_its_token_is_flagged() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::new(5);
    for byte in [200, 201, 202] {
        let later = v1::MarkResponse { token: vec![byte; 500] };
        stage.mock.mark.then(Reply::Answer(later));
    }
    let mark = MarkCall::new("feed_read").item(1, 10);
    let marks = (0..3).map(|_| client.mark(&session, mark.clone()));
    assert!(futures_util::future::join_all(marks).await.iter().all(Result::is_ok));
    assert!(!session.is_complete());
    stage.mock.filter.then(unseen(&[0]));
    assert!(client.filter(&session, feed()).await.unwrap().is_flagged());
}

#[tokio::test(start_paused = true)]
async fn a_history_is_listed_page_by_page() {
    let stage = Stage::default();
    let client = stage.client(options());
    let page = |ids: &[u64], next: &[u8]| {
        let row = |id: &u64| v1::HistoryRow { kind: 1, id: *id, marked_at_ms: 0 };
        let rows = ids.iter().map(row).collect();
        Reply::Answer(v1::HistoryResponse { rows, next_page_token: next.to_vec(), rows_read: 2 })
    };
    stage.mock.history.then(page(&[1, 2], b"a")).then(page(&[], b"b")).then(page(&[3], b""));
    let mut pages = client.history_pages(5, HistoryCall::new("feed_read").kind(1).page_rows(2));
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        ids.extend(page.rows.iter().map(|row| row.id));
    }
    assert_eq!(ids, [1, 2, 3], "an empty page is not the last");
    let asked = stage.mock.history.arrived();
    let tokens: Vec<&[u8]> = asked.iter().map(|one| one.message.page_token.as_slice()).collect();
    assert_eq!(tokens, [&b""[..], b"a", b"b"]);
}

#[tokio::test(start_paused = true)]
async fn the_other_calls_carry_user_and_token() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::with_token(7, &token(3)).unwrap();
    stage.mock.unmark.then(Reply::Answer(v1::UnmarkResponse::default()));
    client.unmark(&session, UnmarkCall::new("feed_read").items(1, [10])).await.unwrap();
    stage.mock.forget.then(Reply::Answer(v1::ForgetResponse::default()));
    client.forget(&session, ForgetScope::AllNamespaces).await.unwrap();
    stage.mock.explain.then(Reply::Answer(v1::ExplainResponse::default()));
    let call = ExplainCall { namespace: "feed_read".to_owned(), kind: 1, id: 10 };
    client.explain(&session, call).await.unwrap();
    let (unmark, forget) = (stage.mock.unmark.arrived(), stage.mock.forget.arrived());
    let explain = stage.mock.explain.arrived();
    for (user, sent) in [
        (unmark[0].message.user, &unmark[0].message.token),
        (forget[0].message.user, &forget[0].message.token),
        (explain[0].message.user, &explain[0].message.token),
    ] {
        assert_eq!((user, sent), (7, &token(3)));
    }
    let scope = forget[0].message.scope.clone();
    assert_eq!(scope, Some(v1::forget_request::Scope::AllNamespaces(true)));
    assert_eq!(forget[0].timeout.as_deref(), Some("30000000u"));
}

#[tokio::test(start_paused = true)]
async fn a_bare_status_of_something_in_between_is_read_with_care() {
    let stage = Stage::default();
    let client = stage.client(options());
    let session = Session::new(5);
    stage.mock.mark.then(Reply::Fail(Status::unavailable("upstream reset")));
    let mark = MarkCall::new("feed_read").item(1, 10);
    let error = client.mark(&session, mark.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutcomeUnknown, "a proxy cannot know what became of it");
    stage.mock.filter.then(Reply::Fail(Status::unimplemented("no such method")));
    let error = client.filter(&session, feed()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
}

#[tokio::test]
async fn connecting_at_once_says_what_is_wrong() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let error = Client::connect(ClientOptions::new(address.to_string())).await.unwrap_err();
    assert!(error.to_string().contains("is the service running?"), "{error}");
    let error = Client::connect(ClientOptions::new("https://x:1")).await.unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
}
