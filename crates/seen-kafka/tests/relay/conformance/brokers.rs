//! One mock cluster and one real Kafka for all tests of the program; each test has a topic of its own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};

use rdkafka::mocking::MockCluster;
use seen_testbed::{Kafka, or_skip};

/// How many partitions a topic has.
pub const PARTITIONS: u16 = 3;

/// Where topics are made.
#[derive(Clone, Copy)]
pub enum Brokers {
    /// librdkafka's own double.
    Mock(&'static Mock),
    /// A process.
    Real(&'static Kafka),
}

/// The program's mock cluster. Always there.
pub fn mock() -> Option<Brokers> {
    static CLUSTER: OnceLock<Mock> = OnceLock::new();
    Some(Brokers::Mock(CLUSTER.get_or_init(Mock::start)))
}

/// The program's Kafka, or `None`, loudly, where it has not been fetched.
pub fn kafka() -> Option<Brokers> {
    static KAFKA: OnceLock<Option<Kafka>> = OnceLock::new();
    KAFKA.get_or_init(|| or_skip(Kafka::start())).as_ref().map(Brokers::Real)
}

impl Brokers {
    /// The address that clients are given.
    pub fn bootstrap(self) -> String {
        match self {
            Self::Mock(cluster) => cluster.bootstrap.clone(),
            Self::Real(kafka) => kafka.bootstrap(),
        }
    }

    /// Makes a topic; its name.
    pub fn topic(self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("slots-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        match self {
            Self::Mock(cluster) => cluster.create(&name),
            Self::Real(kafka) => {
                kafka.create_topic(&name, usize::from(PARTITIONS), &[]).expect("a topic");
            }
        }
        name
    }
}

/// A topic's name, and whom to tell that it is there.
type Wanted = (String, Sender<()>);

/// A mock cluster, which lives on the thread that made it as long as the program.
pub struct Mock {
    bootstrap: String,
    topics: Sender<Wanted>,
}

impl Mock {
    fn start() -> Self {
        let (said, bootstrap) = channel();
        let (topics, wanted) = channel::<Wanted>();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a cluster");
            said.send(cluster.bootstrap_servers()).expect("awaited");
            for (name, made) in wanted {
                cluster.create_topic(&name, i32::from(PARTITIONS), 1).expect("a topic");
                made.send(()).expect("awaited");
            }
        });
        Self { bootstrap: bootstrap.recv().expect("a cluster"), topics }
    }

    fn create(&self, name: &str) {
        let (made, is_made) = channel();
        self.topics.send((name.to_owned(), made)).expect("it lives as long as the program");
        is_made.recv().expect("a topic");
    }
}
