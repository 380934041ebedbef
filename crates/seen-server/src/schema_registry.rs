//! Schemas from a registry of Confluent's interface: one request each, over plain HTTP.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde_json::Value;

/// How long the registry may take to connect, and then to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Why a schema could not be looked up, in words.
type Refused = Box<dyn std::error::Error + Send + Sync>;

/// A schema by its number; `None` if the registry has none of it. Blocks for some seconds at most.
///
/// # Errors
/// A registry that is not there, or is none, in words that name it without its login.
pub(crate) fn schema(registry: &str, id: u32) -> Result<Option<String>, String> {
    let named = |error: &dyn std::fmt::Display| {
        // What stands before the @ is a login.
        let place = registry.rsplit('@').next().unwrap_or_default();
        format!("{place}: {error}")
    };
    let answer = ask(registry, id).map_err(|error| named(&error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| named(&"no HTTP answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => {}
        "404" => return Ok(None),
        other => return Err(named(&format!("it answers with status {other:?}"))),
    }
    let body: Value = serde_json::from_str(body).map_err(|error| named(&error))?;
    match body["schema"].as_str() {
        Some(schema) => Ok(Some(schema.to_owned())),
        None => Err(named(&"its answer has no schema")),
    }
}

/// The answer, head and body. HTTP/1.0, so that the body is what comes until the end.
fn ask(registry: &str, id: u32) -> Result<String, Refused> {
    let uri: Uri = registry.parse()?;
    if uri.scheme_str() != Some("http") {
        return Err(
            "only http:// is spoken; save the schema as a file and name that with its number"
                .into(),
        );
    }
    let authority = uri.authority().ok_or("a host is missing")?;
    let place = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let address = place.to_socket_addrs()?.next().ok_or("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let login = match authority.as_str().rsplit_once('@') {
        Some((login, _)) => format!("Authorization: Basic {}\r\n", STANDARD.encode(login)),
        None => String::new(),
    };
    let path = uri.path().trim_end_matches('/');
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    write!(
        stream,
        "GET {path}/schemas/ids/{id} HTTP/1.0\r\nHost: {host}\r\n{login}Accept: application/json\r\n\r\n"
    )?;
    // A byte now and then would keep each read alive.
    let end = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut part = [0; 8 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("its answer takes too long".into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(String::from_utf8(answer)?),
            _ if answer.len() >= ANSWER_BYTES_MAX => return Err("its answer is too long".into()),
            read => answer.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
}
