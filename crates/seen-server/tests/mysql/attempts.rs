//! One retry budget, from the client to the database server: while storage fails all the time, it is
//! asked at most 1.1 times as often as callers call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seen_client::{Client, ClientOptions, MarkCall, Session};
use seen_testbed::TcpProxy;

use super::ask::{KIND, READ};
use super::process::Process;
use super::servers::mariadb;

/// Calls that a client makes.
const CALLS: u64 = 600;
/// Repeats that the client and the store may have saved up.
const SAVED: u64 = 10 + 20;
/// The beginning of every transaction that writes.
const BEGIN: &[u8] = b"LOCK IN SHARE MODE";

/// One of the program's counters.
fn counter(http: SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(http).expect("it listens");
    let ask = b"GET /metrics HTTP/1.1\r\nhost: seen\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let value = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok();
    text.lines().filter_map(value).sum()
}

/// Cuts the network after each transaction's begin, until told to stop.
fn keep_cutting(proxy: Arc<TcpProxy>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut cuts = 0;
        while !stop.load(Ordering::Relaxed) {
            proxy.cut_after_client_sends(BEGIN);
            cuts += u64::from(proxy.wait_for_cut(Duration::from_millis(50)));
            proxy.heal();
        }
        cuts
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_at_storage_stay_within_a_tenth_above_a_clients_calls() {
    let place = mariadb().expect("always there").migrated();
    let proxy = Arc::new(TcpProxy::to(place.server.port()).expect("a proxy"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut flags = place.flags();
    let more = [
        format!("mysql.servers=127.0.0.1:{}", proxy.port()),
        // No fences: every call that writes is a client's.
        "mysql.feed=none".to_owned(),
    ];
    flags.extend(more.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let process = Process::start(folder.path(), &flags).await;
    let client =
        Client::new(ClientOptions::new(format!("http://{}", process.at.api))).expect("a client");

    let before = counter(process.at.http, "seen_store_calls_total");
    let stop = Arc::new(AtomicBool::new(false));
    let cutting = keep_cutting(Arc::clone(&proxy), Arc::clone(&stop));
    let mut failed = 0;
    for user in 0..CALLS {
        let session = Session::new(user);
        let call = MarkCall::new(READ).item(KIND as u8, 1);
        failed += u64::from(client.mark(&session, call).await.is_err());
    }
    let calls = counter(process.at.http, "seen_store_calls_total") - before;
    let retries = counter(process.at.http, "seen_store_retries_total");
    stop.store(true, Ordering::Relaxed);
    let cuts = cutting.join().expect("it ran");
    eprintln!(
        "{CALLS} calls, {failed} failed; storage: {calls} calls, {retries} retries, {cuts} cuts"
    );
    assert!(failed > CALLS / 2, "{failed}: storage is not in trouble");
    assert!(retries > 0 && calls > CALLS, "both ends repeat: {calls} calls, {retries} retries");
    let attempts = calls + retries;
    assert!(attempts <= CALLS * 11 / 10 + SAVED, "{attempts} attempts for {CALLS} calls");
    assert_eq!(process.terminate().await, Some(0));
}
