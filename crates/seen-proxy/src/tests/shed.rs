//! What is too much is refused at once.

use std::collections::BTreeMap;

use seen_proto::status::ErrorKind;

use super::*;
use crate::fake::Mode;
use crate::limit::Rates;

#[tokio::test(start_paused = true)]
async fn what_is_over_the_limit_is_refused_at_once_and_push_before_feed() {
    let options = ProxyOptions { in_flight_max: 10, ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 1, 1), ("offline", 1, 1), ("push", 1, 1)], options).await;
    bench.net.all().iter().for_each(|link| link.set(Mode::Silent));
    let ask = |tag| bench.ask(Call::Filter, filter_body(5, b""), CALLER, tag);
    let refused = |asked: Asked| async {
        let (answer, took) = asked.timed().await;
        let error = answer.expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Overloaded);
        assert!(error.retry_after.is_some());
        assert_eq!(took, ms(0));
    };
    let mut waiting: Vec<Asked> = (0..7).map(|_| ask("feed")).collect();
    refused(ask("push")).await;
    refused(ask("offline")).await;
    waiting.extend((0..3).map(|_| ask("feed")));
    refused(ask("feed")).await;
    for asked in waiting {
        assert!(is_degraded(&response(asked.answer().await)));
    }
    assert_eq!(bench.proxy.in_flight(), 0);
    bench.net.all().iter().for_each(|link| link.set(Mode::Answers));
    assert!(ask("offline").answer().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_tag_over_its_rate_is_refused_and_the_others_are_not() {
    let rates = Arc::new(Rates::new(BTreeMap::from([("push".to_owned(), 100)])));
    let options = ProxyOptions { rates, ..ProxyOptions::new(1) };
    let bench = Bench::with(&[("feed", 1, 1), ("push", 1, 1)], options).await;
    let ask = |tag| bench.ask(Call::Filter, filter_body(5, b""), CALLER, tag);
    for _ in 0..10 {
        assert!(ask("push").answer().await.is_ok());
    }
    let error = ask("push").answer().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert_eq!(error.retry_after, Some(ms(10)));
    assert!(error.message.contains("push"));
    for _ in 0..100 {
        assert!(ask("feed").answer().await.is_ok());
    }
    sleep(ms(11)).await;
    assert!(ask("push").answer().await.is_ok());
}
