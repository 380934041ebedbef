//! A proxy that starts: nobody calls it before it knows whom it can ask.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{free_ports, seen};

/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(60);

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `look` finds, as soon as it finds it.
fn until<T>(proxy: &mut Ends, mut look: impl FnMut() -> std::io::Result<T>) -> T {
    let found = seen_testbed::until(WITHIN, || {
        assert!(proxy.0.try_wait().expect("a process").is_none(), "the proxy has ended");
        look().map_err(|error| is_waited_for(&error)).ok()
    });
    found.expect("in time")
}

fn is_waited_for(error: &std::io::Error) {
    let kinds = [ErrorKind::WouldBlock, ErrorKind::ConnectionRefused];
    assert!(kinds.contains(&error.kind()), "{error}");
}

/// Callers go to another proxy where a connection is refused. One that is taken before there is a link would be answered "no
/// replica can be reached", flagged, at each restart of a proxy.
#[test]
fn a_proxy_takes_no_calls_before_every_replica_was_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let replica = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    replica.set_nonblocking(true).expect("set");
    let link = replica.local_addr().expect("an address");
    let map = folder.path().join("map.toml");
    let slots = format!(
        "epoch = 1\ncluster = \"490cb2eb0d2406d6\"\nslot_key = \"bb908de9f23e693661499a140766c511\"\ndefault_pool = \"feed\"\n\n\
         [[pool]]\ntag = \"feed\"\n\n[[pool.slot]]\nnumber = 0\nvirtual = \"0-4095\"\n\
         replicas = [{{ address = \"{link}\" }}]\n"
    );
    std::fs::write(&map, slots).expect("written");
    let base = free_ports(50);
    let mut command = seen();
    command.args(["proxy", "--set", &format!("cluster.map={}", map.display())]);
    for (at, key) in ["listen", "admin_listen", "http_listen"].iter().enumerate() {
        command.args(["--set", &format!("server.{key}=127.0.0.1:{}", base + at as u16)]);
    }
    let mut proxy = Ends(command.stderr(Stdio::null()).spawn().expect("it runs"));
    // It is connected to, and says nothing: a replica that is slow, or has much to do.
    let held = until(&mut proxy, || replica.accept());
    let called = || TcpStream::connect((Ipv4Addr::LOCALHOST, base));
    assert_eq!(called().expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    // Where nobody answers, it is the proxy that says so to callers.
    drop((held, replica));
    until(&mut proxy, called);
}
