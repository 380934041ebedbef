//! Who a topic is: its id, which no other topic of the same name ever has (KIP-516, Kafka 2.8). And which of
//! its logs a record is of: each election of a leader begins an epoch (KIP-320), so that records of two logs
//! of which one was cut off and written anew differ by it, also where they have the same offset.
//!
//! `rdkafka` has no calls for these, so librdkafka is asked itself, on the consumer's own connections.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::context::TopicConsumer;

/// A topic's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicId(u128);

impl TopicId {
    /// The id that consists of these halves; `None` for the one that stands for none.
    fn of(most: i64, least: i64) -> Option<Self> {
        let id = u128::from(most.cast_unsigned()) << 64 | u128::from(least.cast_unsigned());
        (id != 0).then_some(Self(id))
    }

    /// Its halves, the upper one first.
    pub fn halves(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }

    #[cfg(test)]
    pub fn new(id: u128) -> Self {
        Self(id)
    }
}

/// Who a topic is, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// It has not been looked at.
    NotAsked,
    /// Kafka does not say.
    Untold,
    /// The one with this id.
    Told(TopicId),
}

impl Identity {
    pub fn id(self) -> Option<TopicId> {
        match self {
            Self::NotAsked | Self::Untold => None,
            Self::Told(id) => Some(id),
        }
    }
}

/// In which epoch of its partition's leader a record was written; `None` if its format does not say.
pub(crate) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<u32> {
    // SAFETY: the message is alive as long as it is borrowed here, and is only read.
    let epoch = unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) };
    u32::try_from(epoch).ok()
}

/// The answer comes within the timeout, or says that it did not; so much longer that is waited for.
const SLACK: Duration = Duration::from_secs(1);

/// The id of a topic, as the broker of this number knows it (below 0: whichever is the controller);
/// `None` if that does not know of ids. Blocks.
///
/// # Errors
/// Kafka does not answer, or has no such topic.
pub(crate) fn ask(
    consumer: &TopicConsumer,
    broker: i32,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<Option<TopicId>> {
    match asked(consumer, broker, topic, timeout) {
        Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => Ok(None),
        answer => answer,
    }
}

fn asked<C: ConsumerContext + ClientContext>(
    consumer: &impl Consumer<C>,
    broker: i32,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<Option<TopicId>> {
    let failed = |what: &str| KafkaError::AdminOpCreation(format!("librdkafka gives no {what}"));
    let client = consumer.client().native_ptr();
    let name = CString::new(topic)?;
    let mut names = [name.as_ptr()];
    // SAFETY: the array has one element, a text that ends in a zero and outlives the call, which copies it.
    let topics =
        unsafe { sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let topics = Owned::new(topics, sys::rd_kafka_TopicCollection_destroy)
        .ok_or_else(|| failed("list of topics"))?;
    let options = options(client, broker, timeout)?;
    // SAFETY: the client is alive as long as the consumer that is borrowed here; this and all below too.
    let queue = unsafe { sys::rd_kafka_queue_new(client) };
    let queue = Owned::new(queue, sys::rd_kafka_queue_destroy).ok_or_else(|| failed("queue"))?;
    // SAFETY: all four are alive; librdkafka copies topics and options, and counts references to the queue.
    unsafe { sys::rd_kafka_DescribeTopics(client, topics.ptr(), options.ptr(), queue.ptr()) };
    // SAFETY: the queue is alive; the event is ours to destroy.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.ptr(), millis(timeout + SLACK)) };
    let event = Owned::new(event, sys::rd_kafka_event_destroy)
        .ok_or(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))?;
    // SAFETY: the event is alive.
    check(unsafe { sys::rd_kafka_event_error(event.ptr()) })?;
    let mut count = 0;
    // SAFETY: what the event holds lives as long as it; a result of another kind gives null, and a null
    // result is not looked into.
    let described = unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr());
        match result.is_null() {
            true => ptr::null_mut(),
            false => sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count),
        }
    };
    if described.is_null() || count != 1 {
        return Err(failed("description of the topic"));
    }
    // SAFETY: there is one element, which lives as long as the event.
    unsafe { id_of(*described) }
}

/// The id that a description names.
///
/// # Safety
/// The description must be alive.
unsafe fn id_of(
    described: *const sys::rd_kafka_TopicDescription_t,
) -> KafkaResult<Option<TopicId>> {
    // SAFETY: the caller's; errors and ids live as long as the description, and none has a code of its own.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(described);
        check(sys::rd_kafka_error_code(error))?;
        let id = sys::rd_kafka_TopicDescription_topic_id(described);
        if id.is_null() {
            return Ok(None);
        }
        let most = sys::rd_kafka_Uuid_most_significant_bits(id);
        Ok(TopicId::of(most, sys::rd_kafka_Uuid_least_significant_bits(id)))
    }
}

fn options(
    client: *mut sys::rd_kafka_t,
    broker: i32,
    timeout: Duration,
) -> KafkaResult<Owned<sys::rd_kafka_AdminOptions_t>> {
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the caller's client is alive; the options are ours to destroy.
    let options = unsafe { sys::rd_kafka_AdminOptions_new(client, kind) };
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy)
        .ok_or_else(|| KafkaError::AdminOpCreation("librdkafka gives no options".to_owned()))?;
    let mut why: [c_char; 256] = [0; 256];
    let (own, text, length) = (options.ptr(), why.as_mut_ptr(), why.len());
    // SAFETY: the options are alive, and the text is written up to the length given, its zero included.
    let mut code = unsafe {
        sys::rd_kafka_AdminOptions_set_request_timeout(own, millis(timeout), text, length)
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && broker >= 0 {
        // SAFETY: as above.
        code = unsafe { sys::rd_kafka_AdminOptions_set_broker(own, broker, text, length) };
    }
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: the array was all zeros, and its last one is not written over.
        let why = unsafe { CStr::from_ptr(why.as_ptr()) };
        return Err(KafkaError::AdminOpCreation(why.to_string_lossy().into_owned()));
    }
    Ok(options)
}

fn check(code: RDKafkaRespErr) -> KafkaResult<()> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(KafkaError::AdminOp(code.into())),
    }
}

fn millis(span: Duration) -> c_int {
    c_int::try_from(span.as_millis()).unwrap_or(c_int::MAX)
}

/// Something of librdkafka's that is given back at the end.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// `None` for null.
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self { pointer, destroy })
    }

    fn ptr(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is of the kind that this function takes, and is given back once.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_zeros_stands_for_none() {
        assert_eq!(TopicId::of(0, 0), None);
        let id = TopicId::of(-1, 2).expect("an id");
        assert_eq!(id.halves(), (u64::MAX, 2));
    }
}
