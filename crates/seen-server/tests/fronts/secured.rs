//! The hot front with certificates: the same is said inside TLS, and nothing outside.

use std::fs;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use seen_cluster::tls::{ClientTls, ServerTls, TlsFiles, TlsProtocol, TlsVersion};
use seen_server::serving::ServingOptions;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stage::{Stage, options};
use super::wire::Wire;
use super::{HANG, WIDE, conversation};

/// One certificate, of an authority of its own.
fn files(folder: &TempDir) -> TlsFiles {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let own = key();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&own, &authority).expect("signed");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("writable");
        path
    };
    TlsFiles {
        certificate: write("tls.crt", certificate.pem()),
        key: write("tls.key", own.serialize_pem()),
        authority: Some(write("ca.crt", authority.pem())),
    }
}

async fn stage(files: &TlsFiles, options: ServingOptions) -> Stage {
    let files = files.clone();
    let tls = ServerTls::load(files, TlsVersion::V12, TlsProtocol::Http2).expect("certificates");
    Stage::hot_with(options, Some(tls)).await
}

#[tokio::test]
async fn the_same_is_said_inside_tls() {
    let folder = TempDir::new().expect("a folder");
    let files = files(&folder);
    let (tonic, ours) = (Stage::tonic().await, stage(&files, options()).await);
    let expected = conversation(&tonic, Wire::connect(tonic.address, WIDE).await).await;
    let tls = ClientTls::load(files, TlsVersion::V13, TlsProtocol::Http2).expect("certificates");
    let stream = TcpStream::connect(ours.address).await.expect("it listens");
    let stream = tls.connect("127.0.0.1", stream).await.expect("trusted");
    let told = conversation(&ours, Wire::over(stream, WIDE).await).await;
    assert_eq!(told, expected);
}

#[tokio::test]
async fn who_speaks_no_tls_is_closed() {
    let folder = TempDir::new().expect("a folder");
    let soon = ServingOptions { handshake: Duration::from_millis(50), ..options() };
    let soon = ServingOptions { balance_interval: Duration::from_millis(20), ..soon };
    let stage = stage(&files(&folder), soon).await;
    for said in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(stage.address).await.expect("it listens");
        stream.write_all(said).await.expect("open");
        let mut told = Vec::new();
        let closed = timeout(HANG, stream.read_to_end(&mut told)).await.expect("it is closed");
        assert!(closed.is_err() || told.len() < 20, "at most an alert: {told:?}");
    }
    assert_eq!(stage.script.log().asked.len(), 0);
}
