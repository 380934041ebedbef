//! Names by a real DNS server, over UDP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use seen_cluster::map::{MapSource, Resolve, Slot, SlotMap, SourceOptions, SystemDns};
use tokio::net::UdpSocket;

use super::world::{feed, slot};

/// What the server says to a question.
fn records(name: &str, kind: RecordType) -> Vec<RData> {
    let service = |target: &str, weight| {
        RData::SRV(SRV::new(10, weight, 7431, Name::from_ascii(target).unwrap()))
    };
    match (name, kind) {
        ("replica-1.seen.test.", RecordType::A) => vec![RData::A(A(Ipv4Addr::new(10, 0, 0, 1)))],
        ("both.seen.test.", RecordType::A) => vec![RData::A(A(Ipv4Addr::new(10, 0, 0, 2)))],
        ("both.seen.test." | "six.seen.test.", RecordType::AAAA) => {
            vec![RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)))]
        }
        ("headless.seen.test.", RecordType::A) => {
            (3..6).map(|last| RData::A(A(Ipv4Addr::new(10, 0, 0, last)))).collect()
        }
        ("_link._tcp.seen.test.", RecordType::SRV) => {
            vec![service("replica-1.seen.test.", 5), service("Six.seen.test.", 7)]
        }
        _ => Vec::new(),
    }
}

/// Answers questions for as long as the test runs.
async fn server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let question = asked.queries[0].clone();
            let name = question.name().to_ascii().to_lowercase();
            let mut answer = Message::response(asked.metadata.id, OpCode::Query);
            answer.add_query(question.clone());
            let found = records(&name, question.query_type());
            if found.is_empty() && !name.ends_with("seen.test.") {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let record = |data| Record::from_rdata(question.name().clone(), 30, data);
            answer.add_answers(found.into_iter().map(record));
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn records_are_read() {
    let dns = SystemDns::with_servers(&[server().await]);
    let addresses = async |name: &str| {
        let mut looked = dns.addresses(name).await.unwrap();
        looked.found.sort();
        assert!(looked.ttl <= Duration::from_secs(30) && looked.ttl > Duration::from_secs(20));
        looked.found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(addresses("replica-1.seen.test").await, ["10.0.0.1"]);
    assert_eq!(addresses("headless.seen.test").await, ["10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    assert_eq!(addresses("six.seen.test").await, ["2001:db8::1"]);
    assert_eq!(addresses("both.seen.test").await, ["10.0.0.2"], "a machine is named once");
    let mut services = dns.services("_link._tcp.seen.test").await.unwrap().found;
    services.sort();
    let services: Vec<_> = services
        .iter()
        .map(|one| (one.target.as_str(), one.port, one.priority, one.weight))
        .collect();
    assert_eq!(services, [("replica-1.seen.test", 7431, 10, 5), ("six.seen.test", 7431, 10, 7)]);
    assert!(dns.addresses("nobody.example").await.is_err());
    assert!(dns.addresses("nothing.seen.test").await.is_err());
    assert!(dns.services("nothing.seen.test").await.is_err());
}

#[tokio::test]
async fn a_map_of_names_is_in_use_with_their_addresses() {
    let slot = Slot {
        dns: Some("headless.seen.test:7430".to_owned()),
        srv: Some("_link._tcp.seen.test".to_owned()),
        ..slot(0, "0-4095", &["both.seen.test:7430"])
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map.toml");
    std::fs::write(&path, SlotMap::new(feed(1, vec![slot])).unwrap().to_toml()).unwrap();
    let resolver = Arc::new(SystemDns::with_servers(&[server().await]));
    let (handle, _watching) = MapSource::start(SourceOptions { path, resolver }).await.unwrap();
    let map = handle.current();
    let replicas = map.replicas().map(|(_, _, one)| format!("{} {}", one.name, one.address));
    assert_eq!(
        replicas.collect::<Vec<_>>(),
        [
            "10.0.0.3:7430 10.0.0.3:7430",
            "10.0.0.4:7430 10.0.0.4:7430",
            "10.0.0.5:7430 10.0.0.5:7430",
            "both.seen.test:7430 10.0.0.2:7430",
            "replica-1.seen.test:7431 10.0.0.1:7431",
            "six.seen.test:7431 [2001:db8::1]:7431",
        ]
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dns = SystemDns::with_servers(&[silent.local_addr().unwrap()]);
    assert!(dns.addresses("replica-1.seen.test").await.is_err());
}
