//! Topics: made, changed, cut, removed.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::Kafka;
use super::wire::{self, Answer, Request};
use crate::error::{Error, While};
use crate::wait;

/// How long a change may take until it is seen.
const LIMIT: Duration = Duration::from_secs(30);
const LIMIT_MS: i32 = 30_000;
/// A topic's settings, as opposed to a broker's.
const TOPIC_RESOURCE: i8 = 2;
const SET: i8 = 0;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;

const LIST_OFFSETS: (i16, i16) = (2, 1);
const METADATA: (i16, i16) = (3, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const DELETE_TOPICS: (i16, i16) = (20, 1);
const DELETE_RECORDS: (i16, i16) = (21, 0);
const CREATE_PARTITIONS: (i16, i16) = (37, 0);
const INCREMENTAL_ALTER_CONFIGS: (i16, i16) = (44, 0);

/// A code, 0 for success, and the broker's words for it.
pub(super) type Told = io::Result<(i16, String)>;

impl Kafka {
    /// Makes a topic with settings of its own, and returns when it can be written to.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: usize,
        settings: &[(&str, &str)],
    ) -> Result<(), Error> {
        let mut body = Request::default();
        // One replica, wherever the broker likes.
        body.count(1).string(topic).count(partitions).i16(1).count(0).count(settings.len());
        for (name, value) in settings {
            body.string(name).string(value);
        }
        body.i32(LIMIT_MS).i8(0);
        let what = || format!("make the topic {topic}");
        self.ask(CREATE_TOPICS, &body, what, |answer| {
            answer.i32()?;
            answer.count()?;
            answer.string()?;
            Ok((answer.i16()?, answer.string()?))
        })?;
        self.wait_for_partitions(topic, partitions)
    }

    /// Gives a topic more partitions: `partitions` in all.
    pub fn add_partitions(&self, topic: &str, partitions: usize) -> Result<(), Error> {
        let mut body = Request::default();
        body.count(1).string(topic).count(partitions).i32(-1).i32(LIMIT_MS).i8(0);
        let what = || format!("add partitions to {topic}");
        self.ask(CREATE_PARTITIONS, &body, what, |answer| {
            answer.i32()?;
            answer.count()?;
            answer.string()?;
            Ok((answer.i16()?, answer.string()?))
        })?;
        self.wait_for_partitions(topic, partitions)
    }

    /// Changes settings of a topic: `retention.ms`, `cleanup.policy` and so on. The broker obeys them some moments later.
    pub fn set_topic(&self, topic: &str, settings: &[(&str, &str)]) -> Result<(), Error> {
        let mut body = Request::default();
        body.count(1).i8(TOPIC_RESOURCE).string(topic).count(settings.len());
        for (name, value) in settings {
            body.string(name).i8(SET).string(value);
        }
        body.i8(0);
        let what = || format!("set {settings:?} of {topic}");
        self.ask(INCREMENTAL_ALTER_CONFIGS, &body, what, |answer| {
            answer.i32()?;
            answer.count()?;
            Ok((answer.i16()?, answer.string()?))
        })?;
        Ok(())
    }

    /// Removes a topic, and returns when it is gone.
    pub fn delete_topic(&self, topic: &str) -> Result<(), Error> {
        let mut body = Request::default();
        body.count(1).string(topic).i32(LIMIT_MS);
        let what = || format!("remove the topic {topic}");
        self.ask(DELETE_TOPICS, &body, what, |answer| {
            answer.i32()?;
            answer.count()?;
            answer.string()?;
            Ok((answer.i16()?, String::new()))
        })?;
        self.wait_for_partitions(topic, 0)
    }

    /// Takes away the records of a partition before an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<(), Error> {
        let mut body = Request::default();
        body.count(1).string(topic).count(1).i32(partition).i64(before).i32(LIMIT_MS);
        let what = || format!("cut {topic} {partition} before {before}");
        self.ask(DELETE_RECORDS, &body, what, |answer| {
            answer.i32()?;
            answer.count()?;
            answer.string()?;
            answer.count()?;
            answer.i32()?;
            answer.i64()?;
            Ok((answer.i16()?, String::new()))
        })?;
        Ok(())
    }

    /// How many partitions a topic has; 0 where there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<usize, Error> {
        Ok(self.leaders(topic)?.len())
    }

    /// The offsets of a partition: of its first record, and the one that its next record will have.
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<Range<i64>, Error> {
        let end = |which| {
            let mut body = Request::default();
            body.i32(-1).count(1).string(topic).count(1).i32(partition).i64(which);
            let what = || format!("ask for the offsets of {topic} {partition}");
            let mut answer = self.ask(LIST_OFFSETS, &body, what, |answer| {
                answer.count()?;
                answer.string()?;
                answer.count()?;
                answer.i32()?;
                Ok((answer.i16()?, String::new()))
            })?;
            // The time comes first.
            answer.i64().and_then(|_| answer.i64()).when(what)
        };
        Ok(end(EARLIEST)?..end(LATEST)?)
    }

    /// Waits until the broker shows so many partitions, each with a leader.
    fn wait_for_partitions(&self, topic: &str, partitions: usize) -> Result<(), Error> {
        let there = || match self.leaders(topic) {
            Ok(leaders) if leaders.len() == partitions && leaders.iter().all(|leads| *leads) => {
                Some(Ok(()))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        wait::until(LIMIT, there).unwrap_or_else(|| {
            let what = format!("{topic} to have {partitions} partitions");
            Err(Error::TooLate { what, limit: LIMIT })
        })
    }

    /// Whether each partition has a leader.
    fn leaders(&self, topic: &str) -> Result<Vec<bool>, Error> {
        let mut body = Request::default();
        // Asking must not make it.
        body.count(1).string(topic).i8(0);
        let what = || format!("ask for the partitions of {topic}");
        let mut answer = wire::ask(self.port(), METADATA, &body).when(what)?;
        leaders(&mut answer).when(what)
    }

    /// Asks one thing; `told` reads the answer up to its code. Asks again while a partition's leader
    /// has not taken it over yet.
    pub(super) fn ask(
        &self,
        api: (i16, i16),
        body: &Request,
        what: impl Fn() -> String,
        told: impl Fn(&mut Answer) -> Told,
    ) -> Result<Answer, Error> {
        let once = || {
            let mut answer = wire::ask(self.port(), api, body).when(&what)?;
            match told(&mut answer).when(&what)? {
                (0, _) => Ok(answer),
                (code, message) => Err(Error::Kafka { what: what(), code, message }),
            }
        };
        let answered = wait::until(LIMIT, || match once() {
            Err(Error::Kafka { code: LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER, .. }) => None,
            other => Some(other),
        });
        answered.unwrap_or_else(|| Err(Error::TooLate { what: what(), limit: LIMIT }))
    }
}

/// The id of the cluster that answers on a port, once it has a broker.
pub(super) fn cluster_at(port: u16) -> io::Result<Option<String>> {
    let mut body = Request::default();
    // No topics: null would be all.
    body.count(0).i8(0);
    let mut answer = wire::ask(port, METADATA, &body)?;
    let brokers = brokers(&mut answer)?;
    let cluster = answer.string()?;
    Ok((brokers > 0).then_some(cluster))
}

/// Reads an answer up to the brokers. Gives how many there are.
fn brokers(answer: &mut Answer) -> io::Result<usize> {
    answer.i32()?;
    let brokers = answer.count()?;
    for _ in 0..brokers {
        answer.i32()?;
        answer.string()?;
        answer.i32()?;
        answer.string()?;
    }
    Ok(brokers)
}

fn leaders(answer: &mut Answer) -> io::Result<Vec<bool>> {
    brokers(answer)?;
    answer.string()?;
    answer.i32()?;
    let mut leaders = Vec::new();
    for _ in 0..answer.count()? {
        let code = answer.i16()?;
        answer.string()?;
        answer.i8()?;
        for _ in 0..answer.count()? {
            answer.i16()?;
            answer.i32()?;
            leaders.push(answer.i32()? >= 0);
            for _ in 0..2 {
                for _ in 0..answer.count()? {
                    answer.i32()?;
                }
            }
        }
        if code == UNKNOWN_TOPIC_OR_PARTITION {
            return Ok(Vec::new());
        }
    }
    Ok(leaders)
}
