//! A toxiproxy process (github.com/Shopify/toxiproxy), told what to do by its HTTP interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seen_server::cli::drill::Act;
use serde_json::{Value, json};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(10);
/// The one toxic that a proxy has at a time.
const TOXIC: &str = "fault";

/// The way to a replica, after those to servers.
const LINK: &str = "link";

/// It, and the ports that lead through it.
pub struct Toxiproxy {
    child: Child,
    port: u16,
    /// One for each server.
    pub ports: Vec<u16>,
    /// One that may lead to a replica.
    link: u16,
}

impl Toxiproxy {
    /// Starts it, with a way to each of these ports.
    pub fn start(program: &Path, to: &[u16]) -> Result<Self, String> {
        let [port, link, ports @ ..] = &free_ports(to.len() + 2)[..] else {
            return Err("no free port".to_owned());
        };
        let child = Command::new(program)
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let proxy = Self { child, port: *port, ports: ports.to_vec(), link: *link };
        let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).ok();
        seen_testbed::until(START_MAX, answers).ok_or("toxiproxy did not start")?;
        for (at, (listen, upstream)) in proxy.ports.iter().zip(to).enumerate() {
            proxy.make(&name(at), *listen, *upstream)?;
        }
        Ok(proxy)
    }

    /// A way to a replica's port; there is one.
    pub fn lead_to_link(&self, port: u16) -> Result<u16, String> {
        self.make(LINK, self.link, port)?;
        Ok(self.link)
    }

    fn make(&self, name: &str, listen: u16, upstream: u16) -> Result<(), String> {
        let made = json!({
            "name": name,
            "listen": format!("127.0.0.1:{listen}"),
            "upstream": format!("127.0.0.1:{upstream}"),
            "enabled": true,
        });
        self.ask("POST", "/proxies", Some(&made))
    }

    /// Does to the network what there is to do to it.
    pub fn begin(&self, act: Act) -> Result<(), String> {
        let toxic = |kind: &str, attributes, both| self.poison(kind, &attributes, both);
        match act {
            Act::LinkSlow => self.slow_link(40, 20),
            Act::LinkSlower => self.slow_link(200, 50),
            Act::StorageSlow => toxic("latency", json!({ "latency": 200, "jitter": 100 }), false),
            Act::StorageNarrow => toxic("bandwidth", json!({ "rate": 20 }), true),
            Act::StorageSilent => toxic("timeout", json!({ "timeout": 0 }), true),
            Act::StorageAnswersLost => toxic("reset_peer", json!({ "timeout": 0 }), false),
            Act::StorageRefused => self.enable(false),
            other => Err(format!("{other:?} is not done to the network")),
        }
    }

    /// Undoes it.
    pub fn heal(&self, act: Act) -> Result<(), String> {
        match act {
            Act::LinkSlow | Act::LinkSlower => self.remove(LINK, true),
            Act::StorageSlow | Act::StorageAnswersLost => self.cure(false),
            Act::StorageNarrow | Act::StorageSilent => self.cure(true),
            Act::StorageRefused => self.enable(true),
            other => Err(format!("{other:?} is not done to the network")),
        }
    }

    /// Gives every server's way this toxic, for what servers send and, if `both`, for what they are sent.
    fn poison(&self, kind: &str, attributes: &Value, both: bool) -> Result<(), String> {
        (0..self.ports.len()).try_for_each(|at| self.add(&name(at), kind, attributes, both))
    }

    /// Takes it away again.
    fn cure(&self, both: bool) -> Result<(), String> {
        (0..self.ports.len()).try_for_each(|at| self.remove(&name(at), both))
    }

    /// What passes to and from the replica takes so long more.
    fn slow_link(&self, ms: u32, jitter_ms: u32) -> Result<(), String> {
        self.add(LINK, "latency", &json!({ "latency": ms, "jitter": jitter_ms }), true)
    }

    fn add(&self, name: &str, kind: &str, attributes: &Value, both: bool) -> Result<(), String> {
        for stream in streams(both) {
            let toxic = json!({
                "name": format!("{TOXIC}-{stream}"),
                "type": kind,
                "stream": stream,
                "toxicity": 1.0,
                "attributes": attributes,
            });
            self.ask("POST", &format!("/proxies/{name}/toxics"), Some(&toxic))?;
        }
        Ok(())
    }

    fn remove(&self, name: &str, both: bool) -> Result<(), String> {
        for stream in streams(both) {
            self.ask("DELETE", &format!("/proxies/{name}/toxics/{TOXIC}-{stream}"), None)?;
        }
        Ok(())
    }

    /// Has every way refuse connections and lose those it has, or pass them again.
    fn enable(&self, enabled: bool) -> Result<(), String> {
        for at in 0..self.ports.len() {
            let change = json!({ "enabled": enabled });
            self.ask("POST", &format!("/proxies/{}", name(at)), Some(&change))?;
        }
        Ok(())
    }

    /// Leads one way to another port.
    pub fn lead(&self, at: usize, to: u16) -> Result<(), String> {
        let change = json!({ "upstream": format!("127.0.0.1:{to}"), "enabled": true });
        self.ask("POST", &format!("/proxies/{}", name(at)), Some(&change))
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(), String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: seen\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let asked = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        let answer = asked().map_err(|error| format!("toxiproxy: {error}"))?;
        match answer.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(()),
            _ => Err(format!("toxiproxy: {method} {path}: {answer}")),
        }
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn streams(both: bool) -> &'static [&'static str] {
    if both { &["downstream", "upstream"] } else { &["downstream"] }
}

fn name(at: usize) -> String {
    format!("sql-{at}")
}

/// Ports that nobody listens on, below those that the system hands out by itself.
fn free_ports(count: usize) -> Vec<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (28_000..32_000).filter(free).take(count).collect()
}
