//! A Kafka that asks who is there, and one that speaks TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use seen_testbed::{Kafka, Record, or_skip};

const SASL_HANDSHAKE: [u8; 4] = [0, 17, 0, 1];
const SASL_AUTHENTICATE: [u8; 4] = [0, 36, 0, 0];
const METADATA: [u8; 4] = [0, 3, 0, 0];
const AUTHENTICATION_FAILED: i16 = 58;

/// Asks one thing, without a name of the client. Gives the answer after the request's number.
fn ask(stream: &mut (impl Read + Write), api: [u8; 4], body: &[u8]) -> Vec<u8> {
    let message = [&api[..], &1_i32.to_be_bytes(), &(-1_i16).to_be_bytes(), body].concat();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], &message].concat()).expect("sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("an answer");
    answer.split_off(4)
}

/// Logs in. Gives the broker's code for it.
fn login(stream: &mut (impl Read + Write), user: &str, password: &str) -> i16 {
    let text =
        |text: &str| [&[0, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let answer = ask(stream, SASL_HANDSHAKE, &text("PLAIN"));
    assert_eq!(answer[..2], [0, 0], "{answer:?}");
    let token = format!("\0{user}\0{password}");
    let token = [&[0, 0], &text(&token)[..]].concat();
    let answer = ask(stream, SASL_AUTHENTICATE, &token);
    i16::from_be_bytes([answer[0], answer[1]])
}

/// How many brokers there are, one of which answers.
fn brokers(stream: &mut (impl Read + Write)) -> u8 {
    ask(stream, METADATA, &[0, 0, 0, 0])[3]
}

fn tls(kafka: &Kafka, certificate: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    StreamOwned::new(connection, TcpStream::connect(kafka.secured_bootstrap()).expect("connected"))
}

#[test]
fn the_secured_port_asks_for_a_password() {
    let Some(kafka) = or_skip(Kafka::builder().sasl("app", "it's").start()) else { return };
    let connect = || TcpStream::connect(kafka.secured_bootstrap()).expect("connected");
    let mut stream = connect();
    assert_eq!(login(&mut stream, "app", "it's"), 0);
    assert_eq!(brokers(&mut stream), 1);
    assert_eq!(login(&mut connect(), "app", "its"), AUTHENTICATION_FAILED);
    // The other port is as open as ever.
    assert_ne!(kafka.bootstrap(), kafka.secured_bootstrap());
    kafka.create_topic("t", 1, &[]).expect("a topic");
    kafka.send("t", 0, &[Record::new("k", "v")]).expect("sent");
}

#[test]
fn the_secured_port_speaks_tls_and_asks_for_a_password() {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let papers = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (certificate, key) = (papers.cert.pem(), papers.signing_key.serialize_pem());
    let secured = Kafka::builder().tls(&certificate, &key);
    let Some(kafka) = or_skip(secured.clone().start()) else { return };
    assert_eq!(brokers(&mut tls(&kafka, &certificate)), 1);
    drop(kafka);
    let kafka = secured.sasl("app", "secret").start().expect("started");
    let mut stream = tls(&kafka, &certificate);
    assert_eq!(login(&mut stream, "app", "secret"), 0);
    assert_eq!(brokers(&mut stream), 1);
}
