//! A replica that takes its users from a peer over real sockets, with TLS and without.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::fs;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use seen_cluster::link::{ClientOptions, ServerOptions, VERSION_MAX, VERSION_MIN, serve_tcp};
use seen_cluster::map::key_check;
use seen_cluster::tls::{ClientTls, ServerTls, TlsFiles, TlsProtocol, TlsVersion};
use seen_filter::{HASH_VERSION, Item, UnixMillis, UserId, VirtualSet};
use seen_proto::v1::{self, LinkLane};
use seen_replica::link::{ClusterRole, LinkDonors, ReplicaLink, Standing};
use seen_replica::warm::{DonorLimits, Progress, WarmupOptions, warm_up};
use tempfile::TempDir;
use tokio::net::TcpListener;

use stage::{Node, READ, store};

const USERS: u64 = 2_000;
/// Of the user whose entry is larger than a frame.
const ITEMS: u64 = 200_000;

/// One certificate for both ends, of an authority of its own.
fn tls(folder: &TempDir) -> (ServerTls, ClientTls) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let files = TlsFiles {
        certificate: write("tls.crt", certificate.pem()),
        key: write("tls.key", key.serialize_pem()),
        authority: Some(write("ca.crt", authority.pem())),
    };
    let server = ServerTls::load(files.clone(), TlsVersion::V13, TlsProtocol::Link);
    let client = ClientTls::load(files, TlsVersion::V13, TlsProtocol::Link);
    (server.expect("loaded"), client.expect("loaded"))
}

/// Serves the links of a replica. Gives the address.
async fn serve(node: &Node, tls: Option<ServerTls>) -> String {
    let role = ClusterRole {
        pool: "feed".to_owned(),
        slot: 3,
        program: "test".to_owned(),
        credit_bytes: 1 << 20,
        donor: DonorLimits::default(),
    };
    let standing = Arc::new(Standing::new(Arc::clone(&node.replica)));
    let service = Arc::new(ReplicaLink::new(standing, role));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (service, tls) = (Arc::clone(&service), tls.clone());
            tokio::spawn(async move {
                let (options, never) = (ServerOptions::default(), std::future::pending());
                // How it ended is the receiver's business.
                let _ = serve_tcp(stream, tls.as_ref(), &*service, &options, never).await;
            });
        }
    });
    address
}

fn hello(node: &Node) -> v1::LinkHello {
    v1::LinkHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        cluster: 77,
        pool: "feed".to_owned(),
        slot: 3,
        slot_known: true,
        hash_version: u32::from(HASH_VERSION),
        slot_key_check: key_check(&store().hash_key().slot_key()),
        settings: vec![node.replica.settings_digest()],
        map_epoch: 1,
        lane: LinkLane::Transfer.into(),
        incarnation: 50,
        program: "test".to_owned(),
    }
}

fn preload(node: &Node) {
    for user in 0..USERS {
        let mut builder = node.replica.builder(READ).expect("known");
        let items = if user == 5 { ITEMS } else { 3 };
        for id in 0..items {
            builder.push(Item::new(1, id), UnixMillis::new(1), 0);
        }
        node.replica.preload(READ, UserId::new(user), builder.finish()).expect("installed");
    }
}

#[tokio::test]
async fn users_are_taken_over_tcp_and_over_tls() {
    let folder = TempDir::new().expect("a folder");
    let (server, client) = tls(&folder);
    let store = store();
    let old = Node::open(&store, 1).await;
    preload(&old);
    for (incarnation, tls) in [(2, None), (3, Some((server, client)))] {
        let (server, client) = tls.unzip();
        let address = serve(&old, server).await;
        let new = Node::open(&store, incarnation).await;
        let hello = hello(&new);
        let connect = |address: &str| {
            let hello = hello.clone();
            let options = ClientOptions::new(address, Arc::new(move || hello.clone()));
            ClientOptions { tls: client.clone(), ..options }
        };
        let donors = LinkDonors::new(|| vec![address.clone()], connect);
        let options = WarmupOptions::of(VirtualSet::ALL);
        let progress = Arc::new(Progress::new());
        let summary = warm_up(&new.replica, &donors, &options, &progress).await;
        assert_eq!((summary.donors, summary.failures.len()), (1, 0), "{summary:?}");
        assert_eq!(new.replica.users(), USERS);
        assert_eq!(new.unread(5, 900).await, (vec![], true), "the large one");
        assert_eq!(new.unread(6, 5).await, (vec![3, 4], true));
    }
}
