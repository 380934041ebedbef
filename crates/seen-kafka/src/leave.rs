//! Giving Kafka's clients back. librdkafka waits for its own threads and, in groups, for brokers then,
//! without a bound, and may do so for ever: whoever needs a client no more must not.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a client takes at most until that is said, and for whoever waits for it.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// A client of Kafka's that ends on a thread of its own.
pub(crate) struct Leaving<C: Send + Sync + 'static> {
    client: Arc<C>,
    what: &'static str,
    ended: Option<oneshot::Sender<()>>,
    /// Goes after `client`, so that the thread that waits for it has the last of that.
    given_back: Option<Sender<()>>,
}

impl<C: Send + Sync + 'static> Leaving<C> {
    /// Takes a client over; `what` names it in the log.
    pub fn new(client: C, what: &'static str) -> Self {
        Self { client: Arc::new(client), what, ended: None, given_back: None }
    }

    /// Ends the client and waits for that, up to a bound.
    pub async fn end(mut self) {
        let (ended, has_ended) = oneshot::channel();
        self.ended = Some(ended);
        drop(self);
        // One that takes longer is told of by its own thread.
        drop(timeout(LEAVE_MAX, has_ended).await);
    }
}

impl<C: Send + Sync + 'static> Deref for Leaving<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.client
    }
}

impl<C: Send + Sync + 'static> Drop for Leaving<C> {
    fn drop(&mut self) {
        let (given_back, is_given_back) = channel();
        let (client, what, ended) = (Arc::clone(&self.client), self.what, self.ended.take());
        let end = move || {
            let _ = is_given_back.recv();
            end(client, what, ended);
        };
        // Without a thread it ends here.
        if Builder::new().name("kafka-leave".to_owned()).spawn(end).is_ok() {
            self.given_back = Some(given_back);
        }
    }
}

/// Ends a client, and says so if that takes long.
fn end<C: Send + Sync + 'static>(
    client: Arc<C>,
    what: &'static str,
    ended: Option<oneshot::Sender<()>>,
) {
    let (done, is_done) = channel::<()>();
    let end = move || {
        drop(client);
        drop((ended, done));
    };
    if Builder::new().name("kafka-end".to_owned()).spawn(end).is_ok()
        && is_done.recv_timeout(LEAVE_MAX) == Err(RecvTimeoutError::Timeout)
    {
        let seconds = LEAVE_MAX.as_secs();
        tracing::warn!(
            what,
            seconds,
            "kafka's client does not end: its threads stay as long as this process"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;
    use std::thread::current;

    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::{Offset, TopicPartitionList};

    use super::*;

    /// Something that ends only when it may, and says on which thread.
    struct Slow {
        may_end: parking_lot::Mutex<Receiver<()>>,
        ended: parking_lot::Mutex<Sender<String>>,
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.may_end.lock().recv();
            let name = current().name().unwrap_or_default().to_owned();
            self.ended.lock().send(name).expect("somebody waits");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_a_client_back_does_not_wait_for_it() {
        for is_waited_for in [false, true] {
            let ((may_end, wait), (say, ended)) = (channel(), channel());
            let slow = Slow { may_end: wait.into(), ended: say.into() };
            let client = Leaving::new(slow, "a client");
            match is_waited_for {
                true => client.end().await,
                false => drop(client),
            }
            // It has not ended yet, or nothing could be sent to it.
            may_end.send(()).expect("it waits");
            assert_eq!(ended.recv().expect("it ends"), "kafka-end");
        }
    }

    /// While something of a client's is held, librdkafka does not give it back, however long it takes.
    #[test]
    fn a_consumer_that_never_ends_holds_nobody_up() {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic("t", 1, 1).expect("a topic");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g");
        let producer: BaseProducer = config.create().expect("a producer");
        let record = BaseRecord::<(), str>::to("t").partition(0).payload("one");
        producer.send(record).map_err(|(error, _)| error).expect("room");
        producer.flush(Duration::from_secs(10)).expect("written");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let consumer = Leaving::new(consumer, "a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("t", 0, Offset::Beginning).expect("a partition");
        consumer.assign(&list).expect("assigned");
        let message = consumer.poll(Duration::from_secs(30)).expect("one").expect("read");
        std::mem::forget(message);
        drop(consumer);
    }
}
