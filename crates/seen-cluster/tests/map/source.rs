//! A watched file and its names, on a paused clock: the time that passes is the test's own.

mod file;
mod names;

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use seen_cluster::map::{
    Looked, MapDraft, MapHandle, MapSource, Resolve, ResolveError, ResolvedMap, Service, SlotMap,
    SourceOptions,
};
use tempfile::TempDir;

/// What a name stands for, and for how many seconds. None: the question is never answered.
#[derive(Clone)]
enum Answer {
    Hosts(Vec<IpAddr>, u64),
    Services(Vec<Service>, u64),
    Failure,
    Silence,
}

/// Names that a test tells.
#[derive(Clone, Default)]
struct Told {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Told {
    fn set(&self, name: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn hosts(&self, name: &str, addresses: &[&str], ttl_seconds: u64) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.set(name, Answer::Hosts(addresses, ttl_seconds));
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }

    fn ask(&self, name: &str) -> Answer {
        self.asked.lock().unwrap().push(name.to_owned());
        self.answers.lock().unwrap().get(name).cloned().unwrap_or(Answer::Failure)
    }
}

fn failure<T>() -> Result<T, ResolveError> {
    Err(ResolveError("out of order".to_owned()))
}

impl Resolve for Told {
    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Looked<IpAddr>, ResolveError>> {
        Box::pin(async move {
            match self.ask(host) {
                Answer::Hosts(found, ttl) => Ok(Looked { found, ttl: Duration::from_secs(ttl) }),
                Answer::Silence => std::future::pending().await,
                Answer::Services(..) | Answer::Failure => failure(),
            }
        })
    }

    fn services<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Looked<Service>, ResolveError>> {
        Box::pin(async move {
            match self.ask(name) {
                Answer::Services(found, ttl) => Ok(Looked { found, ttl: Duration::from_secs(ttl) }),
                Answer::Silence => std::future::pending().await,
                Answer::Hosts(..) | Answer::Failure => failure(),
            }
        })
    }
}

/// A watched file.
struct Watched {
    folder: TempDir,
    told: Told,
    handle: Arc<MapHandle>,
}

impl Watched {
    async fn start(text: &str, told: Told) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("map.toml"), text).unwrap();
        let path = folder.path().join("map.toml");
        let options = SourceOptions { path, resolver: Arc::new(told.clone()) };
        let (handle, watching) = MapSource::start(options).await.unwrap();
        tokio::spawn(watching);
        Self { folder, told, handle }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("map.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// Waits for the next map.
    async fn next(&self) -> Arc<ResolvedMap> {
        self.handle.changed(self.handle.current().revision).await
    }

    /// Name and address of each replica.
    fn replicas(&self) -> Vec<String> {
        let map = self.handle.current();
        let shown = map.replicas().map(|(pool, slot, replica)| {
            let (name, address, weight) = (&replica.name, replica.address, replica.weight);
            format!("{}/{} {name} {address} {weight}", pool.pool.tag(), slot.number)
        });
        shown.collect()
    }
}

/// So much time passes. Nothing else takes any.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn text(draft: MapDraft) -> String {
    SlotMap::new(draft).unwrap().to_toml()
}
