//! One replica, and what it says.

use std::collections::BTreeSet;

use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use tonic::transport::Channel;

use super::ask::{READ, explain, filter, level, patient};
use super::process::{Process, connect};
use super::stage::ITEMS;
use super::wait::awaited;

pub type Api = SeenServiceClient<Channel>;

/// A running `seen serve`.
pub struct Replica {
    pub process: Process,
    pub api: Api,
    _folder: tempfile::TempDir,
}

impl Replica {
    /// Starts one with a folder of its own.
    pub async fn start(flags: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let process = Process::start(folder.path(), &flags).await;
        let api = Api::new(connect(process.at.api).await);
        Self { process, api, _folder: folder }
    }

    /// What is seen of a user's items, and whether the answer may be wrong.
    pub async fn seen(&mut self, user: u64, token: &[u8]) -> (Vec<u64>, v1::QualityLevel) {
        let request = v1::FilterRequest { token: token.to_vec(), ..filter(user, &[READ], ITEMS) };
        let answer = self.api.filter(patient(request)).await.expect("an answer").into_inner();
        let unread: BTreeSet<u32> = answer.unseen.iter().copied().collect();
        let seen =
            (0_u32..).zip(ITEMS).filter(|(at, _)| !unread.contains(at)).map(|(_, item)| item);
        (seen.collect(), level(&answer.quality))
    }

    /// What is known of an item of a user.
    pub async fn explained(&mut self, user: u64, item: u64) -> v1::ExplainResponse {
        let request = patient(explain(user, READ, item));
        self.api.explain(request).await.expect("explained").into_inner()
    }

    /// True if the user's state is in memory and clean.
    pub async fn is_ready(&mut self, user: u64) -> bool {
        let entry = self.explained(user, 1).await.entry;
        entry.is_some_and(|entry| entry.state() == v1::EntryState::Ready)
    }

    /// What a replica knows of a user, and what came into doubt.
    pub async fn why(&mut self, user: u64) -> String {
        let told = self.explained(user, 1).await;
        let metrics = scrape(self.process.at.http).await;
        let of = ["seen_doubts", "seen_fences", "seen_feed", "seen_kafka"];
        let lines = metrics.lines().filter(|line| of.iter().any(|name| line.starts_with(name)));
        format!("{told:?}\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// A counter, of all its labels together.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metrics(name).await.iter().sum()
    }

    /// The least of a metric's values, one for each of its labels.
    pub async fn least(&self, name: &str) -> f64 {
        self.metrics(name).await.into_iter().fold(f64::INFINITY, f64::min)
    }

    async fn metrics(&self, name: &str) -> Vec<f64> {
        let text = scrape(self.process.at.http).await;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values = lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()));
        values.map(|value| value.expect("a value")).collect()
    }

    /// Waits until it says from memory that a user has seen these of the tests' items and no others.
    pub async fn comes_to_say(&mut self, number: usize, user: u64, expected: &[u64]) {
        let what = format!("replica {number} to say of user {user} what storage holds");
        awaited(&what, async || {
            let (seen, level) = self.seen(user, &[]).await;
            let is_sound = level != v1::QualityLevel::Degraded;
            if seen == expected && is_sound && self.is_ready(user).await {
                return Ok(());
            }
            let why = self.why(user).await;
            Err(format!("it says {seen:?} ({level:?}), and storage {expected:?}; {why}"))
        })
        .await;
    }
}

async fn scrape(at: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(at).await.expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: seen\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}
