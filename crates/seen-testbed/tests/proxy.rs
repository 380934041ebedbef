//! A network that is cut, silent, and whole again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use seen_testbed::{MariaDb, TcpProxy};

const LIMIT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_millis(200);

/// Answers with what it is sent, after a mark of its own. Gives its port.
fn echo(mark: u8) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || -> io::Result<()> {
                stream.write_all(&[mark])?;
                io::copy(&mut stream.try_clone()?, &mut stream)?;
                stream.shutdown(Shutdown::Write)
            });
        }
    });
    port
}

fn connect(proxy: &TcpProxy) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// A connection that has passed something: the server's mark.
fn open(proxy: &TcpProxy, mark: u8) -> TcpStream {
    let mut stream = connect(proxy).expect("connected");
    assert_eq!(next(&mut stream, 1), [mark]);
    stream
}

fn next(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).expect("an answer");
    read
}

fn error(stream: &mut TcpStream) -> ErrorKind {
    stream.read(&mut [0]).expect_err("no answer").kind()
}

#[test]
fn everything_is_passed_both_ways() {
    let proxy = TcpProxy::to(echo(1)).expect("a proxy");
    assert!(proxy.port() < 32_768);
    let mut stream = open(&proxy, 1);
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let written = thread::spawn({
        let sent = sent.clone();
        move || {
            writer.write_all(&sent).expect("written");
            writer.shutdown(Shutdown::Write).expect("done");
        }
    });
    let mut read = Vec::new();
    stream.read_to_end(&mut read).expect("everything");
    written.join().expect("written");
    assert!(read == sent, "{} of {} bytes came back", read.len(), sent.len());
}

#[test]
fn a_cut_network_resets_and_refuses_until_it_is_healed() {
    let proxy = TcpProxy::to(echo(1)).expect("a proxy");
    let mut streams = [open(&proxy, 1), open(&proxy, 1)];
    assert_eq!(proxy.connections(), 2);
    for _ in 0..3 {
        proxy.cut();
        assert_eq!(proxy.connections(), 0);
        for stream in &mut streams {
            assert_eq!(error(stream), ErrorKind::ConnectionReset);
        }
        let refused = connect(&proxy).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.heal();
        streams = [open(&proxy, 1), open(&proxy, 1)];
    }
}

#[test]
fn one_who_does_not_read_is_cut_as_well() {
    let proxy = TcpProxy::to(echo(1)).expect("a proxy");
    let mut stream = open(&proxy, 1);
    stream.set_write_timeout(Some(SILENCE)).expect("set");
    let full = stream.write_all(&vec![0; 64 << 20]).expect_err("nobody reads the echo");
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    proxy.cut();
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_silent_network_passes_everything_once_it_is_healed() {
    let proxy = TcpProxy::to(echo(1)).expect("a proxy");
    let mut old = open(&proxy, 1);
    proxy.hold();
    let mut new = connect(&proxy).expect("accepted");
    for stream in [&mut old, &mut new] {
        stream.write_all(b"later").expect("taken");
        stream.set_read_timeout(Some(SILENCE)).expect("set");
        assert_eq!(error(stream), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(LIMIT)).expect("set");
    }
    proxy.heal();
    assert_eq!(next(&mut old, 5), b"later");
    assert_eq!(next(&mut new, 6), b"\x01later");
    proxy.hold();
    new.write_all(b"never").expect("taken");
    proxy.cut();
    assert_eq!(error(&mut new), ErrorKind::ConnectionReset);
}

#[test]
fn an_answer_is_lost_after_the_needle() {
    let proxy = TcpProxy::to(echo(1)).expect("a proxy");
    let mut stream = open(&proxy, 1);
    proxy.cut_after_client_sends(b"COMMIT");
    assert!(!proxy.wait_for_cut(Duration::ZERO));
    for (sent, bytes) in [("COM", 3), ("MENT COM", 8)] {
        stream.write_all(sent.as_bytes()).expect("sent");
        assert_eq!(next(&mut stream, bytes), sent.as_bytes());
    }
    stream.write_all(b"MIT").expect("sent");
    assert_eq!(error(&mut stream), ErrorKind::ConnectionReset);
    assert!(proxy.wait_for_cut(LIMIT));
    assert_eq!(connect(&proxy).expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    proxy.heal();
    let mut stream = open(&proxy, 1);
    stream.write_all(b"COMMIT").expect("sent");
    assert_eq!(next(&mut stream, 6), b"COMMIT");
}

#[test]
fn new_connections_follow_the_target() {
    let proxy = TcpProxy::to(echo(1)).expect("a proxy");
    let mut old = open(&proxy, 1);
    proxy.retarget(echo(2));
    open(&proxy, 2);
    old.write_all(b"x").expect("sent");
    assert_eq!(next(&mut old, 1), b"x");
}

#[test]
fn a_proxy_to_nobody_resets_and_a_dropped_one_refuses() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let proxy = TcpProxy::to(port).expect("a proxy");
    assert_eq!(error(&mut connect(&proxy).expect("accepted")), ErrorKind::ConnectionReset);
    proxy.retarget(echo(1));
    let mut stream = open(&proxy, 1);
    let port = proxy.port();
    drop(proxy);
    assert_eq!(error(&mut stream), ErrorKind::ConnectionReset);
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("refused");
}

#[test]
fn a_commit_whose_answer_is_lost_is_committed() {
    let server = MariaDb::start().expect("started");
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY)").expect("a table");
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    proxy.cut_after_client_sends(b"COMMIT");
    let output = Command::new("mariadb")
        .args(["--no-defaults", "-h127.0.0.1", "-uroot", "--skip-ssl"])
        .arg(format!("-P{}", proxy.port()))
        .args(["-e", "BEGIN; INSERT INTO d.t VALUES (1); COMMIT; INSERT INTO d.t VALUES (2)"])
        .output()
        .expect("a client");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("2013"), "{message}");
    assert_eq!(server.sql("SELECT a FROM d.t").expect("rows"), "1\n");
}
