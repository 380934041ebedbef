//! The hot request and its answer: the walker and the encoder against prost.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use seen_filter::verdicts::Verdicts;
use seen_proto::model::Quality;
use seen_proto::v1;
use seen_proto::wire::{FilterCall, encode_filter_response};

const IDS: u64 = 400;

fn request() -> Vec<u8> {
    let ids = (0..IDS).map(|n| n * 0x9e37_79b9_7f4a_7c15).collect();
    let request = v1::FilterRequest {
        user: 42,
        namespaces: vec!["feed_read".to_owned()],
        candidates: vec![v1::ItemGroup { kind: 1, ids }],
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Every id is looked at, as a check would.
fn walked(raw: &[u8]) -> u64 {
    let call = FilterCall::parse(raw).expect("a valid request");
    call.segments().flat_map(|segment| segment.ids.iter()).fold(0, |sum, id| sum ^ id)
}

fn decoded(raw: &[u8]) -> u64 {
    let request = v1::FilterRequest::decode(raw).expect("a valid request");
    request.candidates.iter().flat_map(|group| &group.ids).fold(0, |sum, id| sum ^ id)
}

/// The positions alone, each written by itself.
fn one_by_one(out: &mut Vec<u8>, unseen: &Verdicts) {
    let mut packed = [0_u8; 2_000];
    let mut len = 0;
    for position in unseen.ones() {
        let long = position >= 0x80;
        packed[len] = (position & 0x7f) as u8 | u8::from(long) << 7;
        packed[len + 1] = (position >> 7) as u8;
        len += 1 + usize::from(long);
    }
    out.extend_from_slice(&packed[..len]);
}

fn answer() -> v1::FilterResponse {
    v1::FilterResponse {
        unseen: (1..IDS as u32).step_by(2).collect(),
        quality: Some(Quality::Filtered { rate: 0.01 }.into()),
        token: Vec::new(),
    }
}

fn benches(c: &mut Criterion) {
    let raw = request();
    assert_eq!(walked(&raw), decoded(&raw));
    let mut group = c.benchmark_group("filter_request_400_ids");
    group.bench_function("walker", |b| b.iter(|| walked(black_box(&raw))));
    group.bench_function("prost", |b| b.iter(|| decoded(black_box(&raw))));
    group.finish();
    let mut out = Vec::with_capacity(1_024);
    let unseen: Verdicts = (1..IDS as usize).step_by(2).collect();
    let mut group = c.benchmark_group("filter_answer_200_positions");
    group.bench_function("encoder", |b| {
        b.iter(|| {
            out.clear();
            let quality = Quality::Filtered { rate: 0.01 };
            encode_filter_response(black_box(&mut out), &unseen, &quality, &[]);
        });
    });
    assert_eq!(out, answer().encode_to_vec());
    group.bench_function("one_by_one", |b| {
        b.iter(|| {
            out.clear();
            one_by_one(black_box(&mut out), &unseen);
        });
    });
    group.bench_function("prost", |b| {
        b.iter(|| {
            out.clear();
            answer().encode(black_box(&mut out)).expect("room");
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
