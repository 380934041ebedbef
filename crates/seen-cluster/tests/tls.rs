//! Certificates: both ends show theirs, what does not fit is refused, and files may change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS12;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use seen_cluster::tls::{ClientTls, ServerTls, TlsError, TlsFiles, TlsProtocol, TlsVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::advance;
use tokio_rustls::{TlsConnector, client, server};

const NAME: &str = "replica-0.seen.svc";

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `name` and its key, as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// The files of one end.
struct End {
    _folder: TempDir,
    files: TlsFiles,
}

impl End {
    fn new(own: &Authority, trusted: &Authority, name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: at("tls.crt"),
            key: at("tls.key"),
            authority: Some(at("ca.crt")),
        };
        let end = Self { files, _folder: folder };
        end.replace(own, trusted, name);
        end
    }

    fn replace(&self, own: &Authority, trusted: &Authority, name: &str) {
        let (certificate, key) = own.issue(name);
        fs::write(&self.files.certificate, certificate).unwrap();
        fs::write(&self.files.key, key).unwrap();
        fs::write(self.authority(), trusted.0.pem()).unwrap();
    }

    fn authority(&self) -> &Path {
        self.files.authority.as_deref().unwrap()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.files.certificate).unwrap()
    }

    fn server(&self) -> ServerTls {
        ServerTls::load(self.files.clone(), TlsVersion::V13, TlsProtocol::Link).unwrap()
    }

    fn client(&self) -> ClientTls {
        ClientTls::load(self.files.clone(), TlsVersion::V13, TlsProtocol::Link).unwrap()
    }
}

type Accepted = io::Result<server::TlsStream<DuplexStream>>;
type Connected = io::Result<client::TlsStream<DuplexStream>>;

async fn shake(server: &ServerTls, client: &ClientTls) -> (Accepted, Connected) {
    let (near, far) = duplex(65_536);
    tokio::join!(server.accept(far), client.connect(NAME, near))
}

/// With another client than ours.
async fn shake_with(server: &ServerTls, client: ClientConfig) -> (Accepted, Connected) {
    let (near, far) = duplex(65_536);
    let name = ServerName::try_from(NAME).unwrap();
    let connect = TlsConnector::from(Arc::new(client)).connect(name, near);
    tokio::join!(server.accept(far), connect)
}

/// A client of `authority` that shows no certificate.
fn nameless(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![TlsProtocol::Link.alpn().to_vec()];
    config
}

/// Both ends of one cluster.
fn both() -> (Authority, End, End) {
    let authority = Authority::new();
    let server = End::new(&authority, &authority, NAME);
    let client = End::new(&authority, &authority, "proxy.seen.svc");
    (authority, server, client)
}

#[tokio::test]
async fn both_ends_show_their_certificates_and_talk() {
    let (_, server, client) = both();
    let (accepted, connected) = shake(&server.server(), &client.client()).await;
    let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(accepted.get_ref().1.peer_certificates(), Some(&[client.certificate()][..]));
    assert_eq!(connected.get_ref().1.peer_certificates(), Some(&[server.certificate()][..]));
    assert_eq!(connected.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(accepted.get_ref().1.alpn_protocol(), Some(&b"seen-link"[..]));
    let mut read = [0; 4];
    connected.write_all(b"ping").await.unwrap();
    accepted.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ping");
    accepted.write_all(b"pong").await.unwrap();
    connected.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"pong");
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let (authority, server, _) = both();
    let (accepted, connected) =
        shake_with(&server.server(), nameless(&authority, rustls::ALL_VERSIONS)).await;
    let why = accepted.unwrap_err().to_string();
    assert!(why.contains("peer sent no certificates"), "{why}");
    // Under 1.3 whoever connects is told after its own half.
    let why = connected.unwrap().read_u8().await.unwrap_err().to_string();
    assert!(why.contains("CertificateRequired"), "{why}");
    let open = TlsFiles { authority: None, ..server.files.clone() };
    let open = ServerTls::load(open, TlsVersion::V13, TlsProtocol::Link).unwrap();
    let (accepted, _) = shake_with(&open, nameless(&authority, rustls::ALL_VERSIONS)).await;
    accepted.expect("a server without an authority asks for no certificate");
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused_by_both_ends() {
    let (authority, server, _) = both();
    let other = Authority::new();
    let stranger = End::new(&other, &authority, "proxy.seen.svc");
    let (accepted, _) = shake(&server.server(), &stranger.client()).await;
    let why = accepted.unwrap_err().to_string();
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");
    let distrustful = End::new(&authority, &other, "proxy.seen.svc");
    let (_, connected) = shake(&server.server(), &distrustful.client()).await;
    let why = connected.unwrap_err().to_string();
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (authority, _, client) = both();
    let elsewhere = End::new(&authority, &authority, "replica-1.seen.svc");
    let (_, connected) = shake(&elsewhere.server(), &client.client()).await;
    let why = connected.unwrap_err().to_string();
    assert!(why.contains("not valid for name"), "{why}");
    let (near, _far) = duplex(64);
    let error = client.client().connect("no name at all", near).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn another_protocol_inside_is_refused() {
    let (_, server, client) = both();
    let http = ServerTls::load(server.files.clone(), TlsVersion::V13, TlsProtocol::Http2).unwrap();
    let (accepted, connected) = shake(&http, &client.client()).await;
    assert!(accepted.is_err() && connected.is_err());
    let client =
        ClientTls::load(client.files.clone(), TlsVersion::V13, TlsProtocol::Http2).unwrap();
    let (accepted, _) = shake(&http, &client).await;
    assert_eq!(accepted.unwrap().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn the_oldest_version_is_kept() {
    let (authority, server, _) = both();
    let files = || TlsFiles { authority: None, ..server.files.clone() };
    let new = ServerTls::load(files(), TlsVersion::V13, TlsProtocol::Link).unwrap();
    let (accepted, connected) = shake_with(&new, nameless(&authority, &[&TLS12])).await;
    assert!(accepted.is_err() && connected.is_err());
    let old = ServerTls::load(files(), TlsVersion::V12, TlsProtocol::Link).unwrap();
    let (accepted, _) = shake_with(&old, nameless(&authority, &[&TLS12])).await;
    assert_eq!(accepted.unwrap().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let (accepted, _) = shake_with(&old, nameless(&authority, rustls::ALL_VERSIONS)).await;
    assert_eq!(accepted.unwrap().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

/// The certificate that a client is shown.
async fn shown(server: &ServerTls, client: &ClientTls) -> CertificateDer<'static> {
    let (_, connected) = shake(server, client).await;
    connected.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test(start_paused = true)]
async fn changed_certificates_are_shown_without_a_restart() {
    let (authority, server, client) = both();
    let (accepts, connects) = (server.server(), client.client());
    let before = server.certificate();
    assert_eq!(shown(&accepts, &connects).await, before);
    server.replace(&authority, &authority, NAME);
    assert_ne!(server.certificate(), before);
    assert_eq!(shown(&accepts, &connects).await, before, "looked at again after a second only");
    advance(Duration::from_secs(1)).await;
    assert_eq!(shown(&accepts, &connects).await, server.certificate());
    // And those of whoever connects.
    client.replace(&authority, &authority, "proxy.seen.svc");
    advance(Duration::from_secs(1)).await;
    let (accepted, _) = shake(&accepts, &connects).await;
    let accepted = accepted.unwrap();
    assert_eq!(accepted.get_ref().1.peer_certificates(), Some(&[client.certificate()][..]));
}

#[tokio::test(start_paused = true)]
async fn a_changed_authority_counts_from_then_on() {
    let (_, server, client) = both();
    let (accepts, connects) = (server.server(), client.client());
    shake(&accepts, &connects).await.0.unwrap();
    let next = Authority::new();
    server.replace(&next, &next, NAME);
    advance(Duration::from_secs(1)).await;
    assert!(shake(&accepts, &connects).await.1.is_err(), "the client is of the authority before");
    client.replace(&next, &next, "proxy.seen.svc");
    advance(Duration::from_secs(1)).await;
    shake(&accepts, &connects).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_used_leave_those_before_in_place() {
    let (authority, server, client) = both();
    let (accepts, connects) = (server.server(), client.client());
    let before = server.certificate();
    let (certificate, key) = authority.issue(NAME);
    let steps: [&dyn Fn(); 4] = [
        &|| fs::write(&server.files.certificate, "half a certif").unwrap(),
        // The certificate is there already, its key is not yet.
        &|| fs::write(&server.files.certificate, &certificate).unwrap(),
        &|| fs::remove_file(&server.files.key).unwrap(),
        &|| fs::write(server.authority(), "").unwrap(),
    ];
    for step in steps {
        step();
        advance(Duration::from_secs(1)).await;
        assert_eq!(shown(&accepts, &connects).await, before);
    }
    fs::write(&server.files.key, key).unwrap();
    fs::write(server.authority(), authority.0.pem()).unwrap();
    advance(Duration::from_secs(1)).await;
    assert_eq!(shown(&accepts, &connects).await, server.certificate());
}

#[test]
fn what_is_wrong_names_its_file() {
    let (authority, server, _) = both();
    let other = authority.issue(NAME).1;
    let load = |files: TlsFiles| {
        let loaded = ServerTls::load(files, TlsVersion::V13, TlsProtocol::Http2);
        loaded.err().expect("it does not load")
    };
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let good = || server.files.clone();
    let cases: [(TlsFiles, &str, &str); 5] = [
        (TlsFiles { certificate: folder.path().join("none"), ..good() }, "certificate", "none"),
        (TlsFiles { certificate: file("empty", ""), ..good() }, "certificate", "empty"),
        (TlsFiles { key: file("text", "no key"), ..good() }, "key", "text"),
        (TlsFiles { authority: Some(file("blank", "\n")), ..good() }, "authority", "blank"),
        (TlsFiles { authority: Some(folder.path().join("gone")), ..good() }, "authority", "gone"),
    ];
    for (files, expected, name) in cases {
        match load(files) {
            TlsError::File { role, path, why } => {
                assert_eq!(role, expected, "{why}");
                assert!(path.ends_with(name), "{path}");
            }
            other => panic!("{other}"),
        }
    }
    let pair = load(TlsFiles { key: file("other", &other), ..good() });
    assert!(matches!(&pair, TlsError::Pair { key, .. } if key.ends_with("other")), "{pair}");
    let blind = TlsFiles { authority: None, ..good() };
    let blind = ClientTls::load(blind, TlsVersion::V13, TlsProtocol::Link);
    assert_eq!(blind.err(), Some(TlsError::NoAuthority));
}
