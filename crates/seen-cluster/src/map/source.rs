//! Where the map comes from: a file that is looked at each second, and names that are looked up again and again.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::compose::compose;
use super::names::Names;
use super::{
    MapError, MapHandle, MapPublisher, Resolve, ResolvedMap, SlotMap, SystemDns, file, metrics,
};

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A file that changed is looked at again after this long, and believed if it stayed. One that is written in place passes through
/// states that may be valid and are not meant: its beginning, with fewer pools.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// A map is in use after this long, whether all its names were answered or not.
const NAMES_TIMEOUT: Duration = Duration::from_secs(5);

/// What a source of maps needs to know.
#[derive(Clone)]
pub struct SourceOptions {
    /// The map's file.
    pub path: PathBuf,
    /// What looks names up.
    pub resolver: Arc<dyn Resolve>,
}

impl SourceOptions {
    /// The map in a file, its names looked up as the system does.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), resolver: Arc::new(SystemDns::new()) }
    }
}

/// A watched map file.
pub struct MapSource {
    watcher: Watcher,
    publisher: MapPublisher,
}

impl MapSource {
    /// Reads the file, looks its names up, and puts the map into use. What is returned second watches the file from then on; it is to
    /// be spawned, and never ends.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no map. Names that have no answer are no error: their replicas are missing until they have one.
    pub async fn start(
        options: SourceOptions,
    ) -> Result<(Arc<MapHandle>, impl Future<Output = ()> + Send + 'static), MapError> {
        let mut watcher = Watcher::open(options).await?;
        let first = watcher.next().await;
        let (publisher, handle) = MapHandle::new((*first).clone());
        let source = Self { watcher, publisher };
        Ok((handle, source.run()))
    }

    async fn run(mut self) {
        loop {
            let map = self.watcher.next().await;
            self.publisher.publish((*map).clone());
        }
    }
}

struct Watcher {
    path: PathBuf,
    names: Names,
    /// The map that was taken over last.
    map: Arc<SlotMap>,
    /// The file's text as of the last look that led to something.
    text: String,
    /// Another text, which has to stay.
    candidate: Option<String>,
    next_look: Instant,
    /// What was said last, so that it is said once.
    said: Option<String>,
    /// What is in use.
    published: Option<Arc<ResolvedMap>>,
    /// True if what is in use may be out of date.
    is_dirty: bool,
    publish_by: Instant,
}

impl Watcher {
    async fn open(options: SourceOptions) -> Result<Self, MapError> {
        let mut text = file::read(&options.path).await?;
        loop {
            tokio::time::sleep(SETTLE_TIME).await;
            let again = file::read(&options.path).await?;
            if again == text {
                break;
            }
            text = again;
        }
        let map = Arc::new(SlotMap::parse(&text)?);
        metrics::epoch().set(map.epoch.get());
        let now = Instant::now();
        let mut names = Names::new(options.resolver);
        names.keep_for(&map, now);
        Ok(Self {
            path: options.path,
            names,
            map,
            text,
            candidate: None,
            next_look: now + LOOK_INTERVAL,
            said: None,
            published: None,
            is_dirty: true,
            publish_by: now + NAMES_TIMEOUT,
        })
    }

    /// Waits for the next map to be put into use.
    async fn next(&mut self) -> Arc<ResolvedMap> {
        loop {
            let now = Instant::now();
            let next_name = self.names.ask_due(now);
            if let Some(map) = self.take_changed(now) {
                return map;
            }
            let wake = next_name.map_or(self.next_look, |next| next.min(self.next_look));
            tokio::select! {
                changed = self.names.answered() => {
                    if changed {
                        self.is_dirty = true;
                        // An SRV record names hosts that were not known before.
                        self.names.keep_for(&self.map, Instant::now());
                    }
                }
                () = sleep_until(wake) => {
                    if self.next_look <= Instant::now() {
                        self.look().await;
                    }
                }
            }
        }
    }

    /// The map to be put into use, if there is another one than the last, and its names were answered.
    fn take_changed(&mut self, now: Instant) -> Option<Arc<ResolvedMap>> {
        let is_due = self.names.are_asked() || self.publish_by <= now;
        if !self.is_dirty || !is_due {
            return None;
        }
        self.is_dirty = false;
        let fresh = Arc::new(compose(&self.map, &self.names, self.published.as_deref()));
        let before = self.published.as_ref();
        if before.is_some_and(|before| before.map == fresh.map && before.pools == fresh.pools) {
            return None;
        }
        self.published = Some(fresh.clone());
        Some(fresh)
    }

    async fn look(&mut self) {
        self.next_look = Instant::now() + LOOK_INTERVAL;
        match file::read(&self.path).await {
            Ok(text) if text == self.text => {
                self.candidate = None;
                if self.said.take().is_some() {
                    info!(path = %self.path.display(), epoch = %self.map.epoch, "the slot map's file is as before");
                }
            }
            Ok(text) if self.candidate.as_ref() == Some(&text) => self.judge(text),
            Ok(text) => {
                self.candidate = Some(text);
                self.next_look = Instant::now() + SETTLE_TIME;
            }
            Err(error) => self.refuse("unreadable", error.to_string()),
        }
    }

    /// Takes a file's text over, or says why not.
    fn judge(&mut self, text: String) {
        match acceptable(&self.map, &text) {
            Err((reason, problem)) => self.refuse(reason, problem),
            Ok(map) => {
                self.said = None;
                self.text = text;
                self.candidate = None;
                if map.epoch == self.map.epoch {
                    return;
                }
                info!(epoch = %map.epoch, before = %self.map.epoch, "a new slot map");
                metrics::epoch().set(map.epoch.get());
                self.map = Arc::new(map);
                self.names.keep_for(&self.map, Instant::now());
                self.is_dirty = true;
                self.publish_by = Instant::now() + NAMES_TIMEOUT;
            }
        }
    }

    fn refuse(&mut self, reason: &'static str, problem: String) {
        if self.said.as_ref() != Some(&problem) {
            metrics::refused(reason).increment(1);
            warn!(
                path = %self.path.display(),
                kept = %self.map.epoch,
                "the slot map's file is not taken over: {problem}"
            );
            self.said = Some(problem);
        }
    }
}

/// The map of a text, if it may follow the one in use; else a reason and what is wrong.
fn acceptable(map: &SlotMap, text: &str) -> Result<SlotMap, (&'static str, String)> {
    let fresh = SlotMap::parse(text).map_err(|error| ("wrong", error.to_string()))?;
    if fresh.cluster != map.cluster {
        let problem = format!("cluster is {:016x}; ours is {:016x}", fresh.cluster, map.cluster);
        return Err(("cluster", problem));
    }
    if fresh.slot_key != map.slot_key {
        let problem = "slot_key is another one: users would be sent elsewhere".to_owned();
        return Err(("slot_key", problem));
    }
    if fresh.epoch < map.epoch {
        let problem = format!("epoch {} is before {}, which is in use", fresh.epoch, map.epoch);
        return Err(("epoch", problem));
    }
    if fresh.epoch == map.epoch && !fresh.says_the_same(map) {
        let problem = format!(
            "it is another map of epoch {}, which is in use: each change counts it up",
            map.epoch
        );
        return Err(("changed", problem));
    }
    Ok(fresh)
}
