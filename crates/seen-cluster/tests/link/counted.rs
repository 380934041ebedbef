//! What is counted, under the names that are listed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use parking_lot::Mutex;
use seen_cluster::link::decoder::Message;
use seen_cluster::link::{Link, LinkChange, METRICS, NotSent, Outgoing, ServerOptions};
use seen_proto::v1::LinkHello;

use crate::pair::{Service, body, hello, pair, request, within};
use crate::raw::{Raw, hello_frame, request_frames, state_frame};

/// Every series by name and labels.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counts {
    fn series(&self, key: &Key) -> Arc<AtomicU64> {
        assert!(METRICS.iter().any(|metric| metric.name == key.name()), "{key} is not listed");
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = key.name().strip_prefix("seen_link_").unwrap_or_default();
        self.0.lock().entry(format!("{name} {}", labels.join(" "))).or_default().clone()
    }

    fn get(&self, series: &str) -> u64 {
        let known = self.0.lock();
        let found = known.get(series).unwrap_or_else(|| panic!("{series} of {:?}", known.keys()));
        found.load(Relaxed)
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn requests_writes_and_ends_are_counted() {
    let counts = Counts::default();
    let _guard = set_default_local_recorder(&counts);
    let (client, mut ear, served) = pair(&Service::echo()).await;
    for id in 0..10 {
        client.submit(&request(id, body(100))).unwrap();
    }
    within(ear.answers(10)).await;
    assert_eq!(counts.get("requests_total end=client lane=filters"), 10);
    assert_eq!(counts.get("requests_total end=server lane=filters"), 10);
    assert_eq!(counts.get("writes_total end=client lane=filters"), 1);
    assert_eq!(counts.get("bytes_total end=client lane=filters direction=out"), 10 * 131);
    assert_eq!(counts.get("bytes_total end=server lane=filters direction=in"), 10 * 131);
    assert_eq!(f64::from_bits(counts.get("connections_count end=client lane=filters")), 1.0);
    assert_eq!(f64::from_bits(counts.get("connections_count end=server lane=filters")), 1.0);
    served.stop();
    within(served.ended()).await.unwrap();
    assert_eq!(within(ear.change()).await, LinkChange::Draining);
    within(ear.down()).await;
    assert_eq!(counts.get("ended_total end=client reason=goodbye"), 1);
    assert_eq!(counts.get("ended_total end=server reason=closed"), 1);
    assert_eq!(f64::from_bits(counts.get("connections_count end=server lane=filters")), 0.0);
    assert_eq!(client.submit(&request(1, body(1))), Err(NotSent::Closed));
    assert_eq!(counts.get("not_sent_total lane=filters reason=closed"), 1);
}

#[tokio::test]
async fn who_is_cut_off_is_counted_by_its_reason() {
    let counts = Counts::default();
    let _guard = set_default_local_recorder(&counts);
    let (service, options) = (Service::echo(), ServerOptions::default());
    let (mut raw, served) = Raw::to_server(&service, 65_536, &options);
    raw.say(&hello_frame(&LinkHello { slot: 9, ..hello() })).await;
    within(served.ended()).await.unwrap_err();
    let (mut raw, served) = Raw::welcomed(&service, 65_536, &options).await;
    raw.say(&state_frame()).await;
    within(served.ended()).await.unwrap_err();
    let (mut raw, _served) = Raw::welcomed(&service, 65_536, &options).await;
    raw.say(&request_frames(&[Outgoing { timeout_us: 0, ..request(1, body(1)) }])).await;
    assert!(matches!(within(raw.next_but_state()).await, Some(Message::Reply { .. })));
    assert_eq!(counts.get("ended_total end=server reason=refused"), 1);
    assert_eq!(counts.get("ended_total end=server reason=broken"), 1);
    assert_eq!(counts.get("expired_total lane=filters"), 1);
}
