//! The link over TLS, over real sockets.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use seen_cluster::link::{
    Answer, ClientOptions, Cut, Link, LinkClient, RequestId, ServerOptions, serve_tcp,
};
use seen_cluster::tls::{ClientTls, ServerTls, TlsFiles, TlsProtocol, TlsVersion};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pair::{Ear, Service, always, body, hello, request, within};

/// One certificate for everybody, of an authority of its own.
fn files(folder: &TempDir) -> TlsFiles {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "replica.seen.svc".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        certificate: write("tls.crt", certificate.pem()),
        key: write("tls.key", key.serialize_pem()),
        authority: Some(write("ca.crt", authority.pem())),
    }
}

/// Serves one connection. Gives the address.
async fn serve_one(tls: Option<ServerTls>) -> (String, JoinHandle<Result<(), Cut>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (service, options) = (Service::echo(), ServerOptions::default());
        serve_tcp(stream, tls.as_ref(), &*service, &options, std::future::pending()).await
    });
    (address, task)
}

#[tokio::test]
async fn requests_travel_over_tls_by_address_and_by_name() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    let server = ServerTls::load(files.clone(), TlsVersion::V13, TlsProtocol::Link).unwrap();
    let tls = ClientTls::load(files, TlsVersion::V13, TlsProtocol::Link).unwrap();
    for tls_name in [None, Some("replica.seen.svc".to_owned())] {
        let (address, served) = serve_one(Some(server.clone())).await;
        let (events, mut ear) = Ear::new();
        let options = ClientOptions {
            tls: Some(tls.clone()),
            tls_name,
            ..ClientOptions::new(address, always(hello()))
        };
        let client = LinkClient::start(options, events);
        within(ear.up()).await;
        for id in 0..100 {
            client.submit(&request(id, body(id as usize * 150))).unwrap();
        }
        for (id, answer) in within(ear.answers(100)).await {
            assert!(answer == Answer::Message(body(id as usize * 150)), "request {id}");
        }
        // One alone is not kept back in a buffer of TLS.
        client.submit(&request(100, body(5))).unwrap();
        assert_eq!(within(ear.answer()).await.0, RequestId(100));
        drop(client);
        let ended = within(served).await.unwrap();
        // Whoever is dropped says no goodbye of TLS.
        assert!(ended.is_ok() || ended.is_err_and(|cut| cut.label() == "io"));
    }
}

#[tokio::test]
async fn one_end_without_tls_fails_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    let server = ServerTls::load(files.clone(), TlsVersion::V13, TlsProtocol::Link).unwrap();
    let (address, served) = serve_one(Some(server)).await;
    let (events, mut ear) = Ear::new();
    let _client = LinkClient::start(ClientOptions::new(address, always(hello())), events);
    let cut = within(served).await.unwrap().unwrap_err();
    assert!(cut.to_string().starts_with("the TLS handshake: "), "{cut}");
    within(ear.down()).await;

    let (address, served) = serve_one(None).await;
    let (events, mut ear) = Ear::new();
    let tls = ClientTls::load(files, TlsVersion::V13, TlsProtocol::Link).unwrap();
    let options = ClientOptions { tls: Some(tls), ..ClientOptions::new(address, always(hello())) };
    let _client = LinkClient::start(options, events);
    assert_eq!(within(served).await.unwrap().unwrap_err().label(), "broken");
    let why = within(ear.down()).await;
    assert!(why.starts_with("the TLS handshake: "), "{why}");
}
