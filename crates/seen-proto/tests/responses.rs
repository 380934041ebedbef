//! The hand-written answers are byte for byte what prost writes, and a push answer reads back as it
//! was put together.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use prost::Message;
use seen_proto::limits::CANDIDATES_MAX;
use seen_proto::model::{OnUnknown, PushAnswers, PushCall, PushRows, Quality};
use seen_proto::v1::{self, DegradedReason, UserAnswer};
use seen_proto::wire::{
    encode_filter_response, encode_mark_response, encode_stream_answer, encode_stream_error,
    stream_answer_len,
};

fn quality() -> impl Strategy<Value = Quality> {
    let rate = prop_oneof![Just(0.0), Just(-0.0), 0.0..1.0, any::<f64>()];
    let degraded = (rate.clone(), 0..8, any::<u32>()).prop_map(|(rate, reason, unknown)| {
        let reason = DegradedReason::try_from(reason).expect("all eight are defined");
        Quality::Degraded { rate, reason, unknown }
    });
    prop_oneof![Just(Quality::Exact), rate.prop_map(|rate| Quality::Filtered { rate }), degraded]
}

proptest! {
    #[test]
    fn filter_responses(
        unseen in prop_oneof![
            btree_set(0..CANDIDATES_MAX, 0..400),
            btree_set(0..140_usize, 0..140),
            Just((0..CANDIDATES_MAX).collect()),
        ],
        quality in quality(),
        token in vec(any::<u8>(), 0..600),
    ) {
        let mut written = Vec::new();
        encode_filter_response(&mut written, &unseen.iter().copied().collect(), &quality, &token);
        let message = v1::FilterResponse {
            unseen: unseen.iter().map(|position| *position as u32).collect(),
            quality: Some(quality.into()),
            token,
        };
        prop_assert_eq!(&written, &message.encode_to_vec());

        for request_id in [0, 1, u64::MAX] {
            let mut stream = Vec::new();
            encode_stream_answer(&mut stream, request_id, &written);
            prop_assert_eq!(stream.len(), stream_answer_len(request_id, written.len()));
            let result = v1::filter_stream_response::Result::Filter(message.clone());
            let outer = v1::FilterStreamResponse { request_id, result: Some(result) };
            prop_assert_eq!(stream, outer.encode_to_vec());
        }
    }

    #[test]
    fn mark_responses(token in vec(any::<u8>(), 0..600)) {
        let mut written = Vec::new();
        encode_mark_response(&mut written, &token);
        prop_assert_eq!(written, v1::MarkResponse { token }.encode_to_vec());
    }

    #[test]
    fn qualities_survive_the_wire(quality in quality()) {
        let back = Quality::from(&v1::Quality::from(quality));
        // A rate that is no number equals nothing, itself included.
        prop_assert_eq!(format!("{back:?}"), format!("{quality:?}"));
    }

    #[test]
    fn stream_errors(
        request_id: u64,
        code in 1..17,
        message in "\\PC{0,20}",
        details in vec(any::<u8>(), 0..40),
    ) {
        let error = v1::CallError { code, message, details };
        let mut written = Vec::new();
        encode_stream_error(&mut written, request_id, &error);
        let result = v1::mark_stream_response::Result::Error(error);
        let outer = v1::MarkStreamResponse { request_id, result: Some(result) };
        prop_assert_eq!(written, outer.encode_to_vec());
    }

    #[test]
    fn push_rows_read_back(
        items in 0..101_usize,
        rows in vec(proptest::option::of(btree_set(0..120_usize, 0..40)), 0..40),
        show: bool,
    ) {
        let call = push_call(items, rows.len(), show);
        let mut answer = PushRows::new(&call);
        for (user, unseen) in rows.iter().enumerate() {
            if let Some(unseen) = unseen {
                answer.set(user, UserAnswer::Filtered, unseen.iter().copied());
            }
        }
        answer.set(rows.len(), UserAnswer::Exact, [0]);
        prop_assert_eq!(answer.unknown(), rows.iter().filter(|row| row.is_none()).count());
        let result = answer.finish(Quality::Exact);
        if let Some(row_bytes) = result.unseen.len().checked_div(rows.len()).filter(|_| items % 8 != 0) {
            let last_of_row = result.unseen.chunks(row_bytes).filter_map(<[u8]>::last);
            prop_assert!(last_of_row.copied().all(|byte| byte >> (items % 8) == 0));
        }
        let read = PushAnswers::new(result.clone(), items, rows.len()).expect("it fits");
        for (user, unseen) in rows.iter().enumerate() {
            let answered = unseen.is_some();
            let kept = |item: &usize| match unseen {
                Some(unseen) => unseen.contains(item),
                None => show,
            };
            let expected: Vec<usize> = (0..items).filter(kept).collect();
            prop_assert_eq!(read.unseen(user).collect::<Vec<_>>(), expected);
            prop_assert_eq!(read.answer(user) == UserAnswer::Filtered, answered);
            prop_assert_eq!(read.answer(user) == UserAnswer::Unknown, !answered);
        }
        prop_assert_eq!(read.unseen(rows.len()).count(), 0);
        prop_assert!(PushAnswers::new(result.clone(), items, rows.len() + 1).is_err());
        prop_assert!(PushAnswers::new(result, items + 8, rows.len()).is_err() || rows.is_empty());
    }
}

fn push_call(items: usize, users: usize, show: bool) -> PushCall {
    let request = v1::FilterUsersRequest {
        namespaces: vec!["feed".to_owned()],
        items: vec![v1::ItemGroup { kind: 1, ids: (0..items as u64).collect() }],
        users: (0..users as u64).collect(),
        on_unknown: if show { 0 } else { 2 },
        ..Default::default()
    };
    let call = PushCall::try_from(request).expect("within the limits");
    assert_eq!(call.on_unknown == OnUnknown::Show, show);
    call
}
