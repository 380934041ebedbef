//! The front over real sockets: placing, closing, draining, and cutting off.

mod client;
mod stage;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use client::{Client, read};
use h2::Reason;
use seen_server::serving::{Drained, Front, ServingError, ServingOptions, ThreadIndex};
use stage::{Plain, Stage, options};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No test waits for a condition longer than this; none asserts how long anything took.
const HANG: Duration = Duration::from_secs(60);
/// Requests after which a flood must have been cut off.
const FLOOD_REQUESTS: usize = 50_000;

#[tokio::test]
async fn a_connection_past_its_age_says_goaway_and_answers_what_runs() {
    let age = Duration::from_millis(100);
    let mut stage = Stage::open(ServingOptions { connection_age: age, ..options(1) }).await;
    let mut client = Client::connect(stage.address).await.expect("connected");
    let (held, _stream) = client.open("/hold").await.expect("opened");
    stage.held(1).await;
    timeout(HANG, client.until_goaway()).await.expect("GOAWAY by age");
    stage.gate.add_permits(1);
    assert_eq!(read(held).await.expect("answered whole"), "0");
    timeout(HANG, client.ended()).await.expect("the connection ends").expect("without an error");
    assert_eq!(stage.close().await.cut, 0);
}

#[tokio::test]
async fn requests_that_outlast_the_grace_are_cut_off() {
    let soon = Duration::from_millis(50);
    let short = ServingOptions { connection_age: soon, connection_grace: soon, ..options(1) };
    let stage = Stage::open(short).await;
    let mut client = Client::connect(stage.address).await.expect("connected");
    let (held, _stream) = client.open("/hold").await.expect("opened");
    let outcome = timeout(HANG, read(held)).await.expect("cut off");
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn a_drain_answers_what_runs_and_refuses_what_is_new() {
    let mut stage = Stage::open(options(2)).await;
    let mut client = Client::connect(stage.address).await.expect("connected");
    let (held, _stream) = client.open("/hold").await.expect("opened");
    stage.held(1).await;
    stage.stop.request();
    timeout(HANG, client.until_goaway()).await.expect("GOAWAY by drain");
    assert!(Client::connect(stage.address).await.is_err(), "the port is closed");
    stage.gate.add_permits(1);
    assert!(read(held).await.is_ok());
    let drained = timeout(HANG, stage.close()).await.expect("drained");
    assert_eq!(drained, Drained { closed: 1, cut: 0, threads_stuck: 0 });
}

#[tokio::test]
async fn a_drain_ends_at_its_bound_whatever_runs() {
    let bound = Duration::from_millis(50);
    let mut stage = Stage::open(ServingOptions { drain: bound, ..options(1) }).await;
    let mut client = Client::connect(stage.address).await.expect("connected");
    let (held, _stream) = client.open("/hold").await.expect("opened");
    stage.held(1).await;
    let drained = timeout(HANG, stage.close()).await.expect("the bound");
    assert_eq!(drained, Drained { closed: 0, cut: 1, threads_stuck: 0 });
    assert!(read(held).await.is_err());
}

#[tokio::test]
async fn two_busy_connections_are_served_by_two_threads() {
    let stage = Stage::open(options(2)).await;
    let mut busy = JoinSet::new();
    for _ in 0..2 {
        let mut client = Client::connect(stage.address).await.expect("connected");
        busy.spawn(async move {
            for _ in 0..50 {
                client.ask("/spin").await.expect("answered");
            }
            client.ask("/thread").await.expect("answered")
        });
    }
    let threads: BTreeSet<String> = busy.join_all().await.into_iter().collect();
    assert_eq!(threads.len(), 2, "{threads:?}");
    let accepted: Vec<u64> = stage.status.threads().iter().map(|one| one.accepted).collect();
    assert_eq!(accepted, [1, 1]);
}

/// Keeps a thread busy over one connection, connecting anew whenever it is closed; says each time
/// which thread answered.
async fn keep_busy(mut client: Client, to: SocketAddr, at: watch::Sender<String>) {
    loop {
        while let Ok(thread) = client.ask("/spin").await {
            at.send_replace(thread);
        }
        client = Client::connect(to).await.expect("connected");
    }
}

#[tokio::test]
async fn newcomers_go_to_the_idle_thread() {
    let stage = Stage::open(options(2)).await;
    let mut busy = Client::connect(stage.address).await.expect("connected");
    let hot = busy.ask("/thread").await.expect("answered");
    let hot_busy = || stage.status.threads()[hot.parse::<usize>().expect("a number")].busy;
    let warm = async {
        while hot_busy() < 0.6 {
            busy.ask("/spin").await.expect("answered");
        }
    };
    timeout(HANG, warm).await.expect("the load is seen");
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(stage.address).await.expect("connected");
        let work = async { while busy.ask("/spin").await.is_ok() {} };
        let thread = tokio::select! {
            thread = client.ask("/thread") => thread.expect("answered"),
            () = work => panic!("the busy connection was closed"),
        };
        assert_ne!(thread, hot);
        newcomers.push(client);
    }
}

#[tokio::test]
async fn a_thread_whose_load_has_left_gets_its_share_at_once() {
    // Samples are so rare that only the connection's end can say that the load is gone.
    let slow = ServingOptions { balance_interval: Duration::from_millis(500), ..options(2) };
    let stage = Stage::open(slow).await;
    let mut busy = Client::connect(stage.address).await.expect("connected");
    let hot: usize = busy.ask("/thread").await.expect("answered").parse().expect("a number");
    let warm = async {
        while stage.status.threads()[hot].busy < 0.4 {
            busy.ask("/spin").await.expect("answered");
        }
    };
    timeout(HANG, warm).await.expect("the load is seen");
    drop(busy.ended().await);
    let gone = async {
        while stage.status.threads()[hot].connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, gone).await.expect("it is struck off");
    let mut threads = BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(stage.address).await.expect("connected");
        threads.insert(client.ask("/thread").await.expect("answered"));
        clients.push(client);
    }
    assert_eq!(threads.len(), 2, "both went to {threads:?}");
}

#[tokio::test]
async fn two_busy_connections_on_one_thread_are_parted() {
    let stage = Stage::open(options(2)).await;
    let mut by_thread: [Vec<Client>; 2] = Default::default();
    while by_thread.iter().all(|clients| clients.len() < 2) {
        let mut client = Client::connect(stage.address).await.expect("connected");
        let thread = client.ask("/thread").await.expect("answered");
        by_thread[thread.parse::<usize>().expect("a number")].push(client);
    }
    let mut work = JoinSet::new();
    let mut at = Vec::new();
    for clients in by_thread {
        // Those of the other thread stay open and idle.
        let busy = clients.len() == 2;
        for client in clients {
            let (sender, receiver) = watch::channel(String::new());
            match busy {
                true => {
                    at.push(receiver);
                    work.spawn(keep_busy(client, stage.address, sender))
                }
                false => work.spawn(async move { drop(client.ended().await) }),
            };
        }
    }
    let [one, other] = &mut at[..] else { panic!("two busy connections") };
    let parted = async {
        loop {
            let (here, there) =
                (one.borrow_and_update().clone(), other.borrow_and_update().clone());
            if !here.is_empty() && !there.is_empty() && here != there {
                return;
            }
            tokio::select! {
                changed = one.changed() => changed.expect("alive"),
                changed = other.changed() => changed.expect("alive"),
            }
        }
    };
    timeout(HANG, parted).await.expect("one of them moves");
}

#[tokio::test]
async fn resetting_begun_requests_by_the_thousand_is_cut_off() {
    // The bound on requests that were not begun is out of the way, so that only ours can act.
    let bounds = ServingOptions { cancelled_max: 1_000, resets_pending_max: 65_535, ..options(1) };
    let mut stage = Stage::open(bounds).await;
    let mut honest = Client::connect(stage.address).await.expect("connected");
    let mut flood = Client::connect(stage.address).await.expect("connected");
    let mut begun = 0;
    let flooding = async {
        while begun < FLOOD_REQUESTS {
            let mut streams = Vec::new();
            for _ in 0..100 {
                match flood.open("/hold").await {
                    Ok(stream) => streams.push(stream),
                    Err(_) => return,
                }
                begun += 1;
            }
            tokio::select! {
                () = stage.held(begun) => {}
                _ = flood.ask("/hold") => {}
            }
            streams.iter_mut().for_each(|(_, stream)| stream.send_reset(Reason::CANCEL));
        }
    };
    timeout(HANG, flooding).await.expect("no hang");
    assert!((1_000..2_000).contains(&begun), "cut off after {begun}");
    assert_eq!(honest.ask("/thread").await.expect("others are served"), "0");
}

#[tokio::test]
async fn resetting_requests_before_they_are_begun_is_cut_off() {
    let few = ServingOptions { resets_pending_max: 50, ..options(1) };
    let bounds = ServingOptions { cancelled_max: 10_000_000, ..few };
    let stage = Stage::open(bounds).await;
    let mut flood = Client::connect(stage.address).await.expect("connected");
    let flooding = async {
        for sent in 0..FLOOD_REQUESTS {
            let Ok((_, mut stream)) = flood.open("/hold").await else { return sent };
            // Lets the request go out: one that is reset in the client's own queue is never sent.
            tokio::task::yield_now().await;
            stream.send_reset(Reason::CANCEL);
        }
        FLOOD_REQUESTS
    };
    let sent = timeout(HANG, flooding).await.expect("no hang");
    assert!(sent < FLOOD_REQUESTS, "never cut off");
}

#[tokio::test]
async fn an_honest_client_may_cancel_many() {
    let mut stage = Stage::open(ServingOptions { cancelled_max: 1_000, ..options(1) }).await;
    let mut client = Client::connect(stage.address).await.expect("connected");
    for round in 1..=5 {
        let mut streams = Vec::new();
        for _ in 0..150 {
            streams.push(client.open("/hold").await.expect("opened"));
        }
        stage.held(round * 150).await;
        streams.iter_mut().for_each(|(_, stream)| stream.send_reset(Reason::CANCEL));
        assert_eq!(client.ask("/thread").await.expect("still served"), "0");
    }
    for _ in 0..1_500 {
        client.ask("/thread").await.expect("answered requests do not count");
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let soon = Duration::from_millis(50);
    let stage = Stage::open(ServingOptions { handshake: soon, ..options(1) }).await;
    let mut silent = TcpStream::connect(stage.address).await.expect("connected");
    let mut bytes = Vec::new();
    let read = timeout(HANG, silent.read_to_end(&mut bytes)).await.expect("closed");
    assert!(read.is_err() || bytes.len() < 200, "at most the server's settings: {bytes:?}");
}

#[tokio::test]
async fn connections_past_the_bound_are_closed_at_once_until_one_ends() {
    let stage = Stage::open(ServingOptions { connections_max: 1, ..options(2) }).await;
    let mut first = Client::connect(stage.address).await.expect("connected");
    first.ask("/thread").await.expect("answered");
    let mut second = Client::connect(stage.address).await;
    if let Ok(client) = &mut second {
        assert!(client.ask("/thread").await.is_err(), "one too many");
    }
    first.ask("/thread").await.expect("the first one is not disturbed");
    drop(first.ended().await);
    let served = async {
        loop {
            if let Ok(mut client) = Client::connect(stage.address).await
                && client.ask("/thread").await.is_ok()
            {
                return;
            }
        }
    };
    timeout(HANG, served).await.expect("there is room again");
}

#[tokio::test]
async fn a_tonic_service_is_served() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health).prepare();
    let front = Front::start(options(2), move |_| Plain(routes.clone())).await.expect("it starts");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = seen_server::shutdown::Stop::default();
    let served = tokio::spawn(front.serve(listener, stop.requested_within()));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let channel = endpoint.expect("an address").connect().await.expect("connected");
    let mut client = HealthClient::new(channel);
    let reply = client.check(HealthCheckRequest::default()).await.expect("answered").into_inner();
    assert_eq!(reply.status(), ServingStatus::Serving);
    drop(client);
    stop.request();
    assert_eq!(served.await.expect("no panic").cut, 0);
}

#[tokio::test]
async fn a_service_that_cannot_be_made_stops_the_start() {
    let make = |thread: ThreadIndex| {
        assert_eq!(thread.get(), 0, "the second thread's service cannot be made");
        Plain(tonic::service::Routes::default())
    };
    let refused = Front::start(options(2), make).await.expect_err("no front");
    assert!(matches!(refused, ServingError::Died { thread } if thread.get() == 1), "{refused}");
}
