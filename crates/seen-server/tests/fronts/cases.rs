//! What both fronts are asked, and the code that must come of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use seen_proto::limits::MESSAGE_BYTES_MAX;
use seen_proto::message::encode;
use seen_proto::v1;

use super::wire::{Ask, ask, framed};

pub const FILTER: &str = "/seen.v1.SeenService/Filter";
pub const MARK: &str = "/seen.v1.SeenService/Mark";
pub const UNMARK: &str = "/seen.v1.SeenService/Unmark";

/// Codes of gRPC.
const OK: i32 = 0;
const INVALID: i32 = 3;
const DEADLINE: i32 = 4;
const EXHAUSTED: i32 = 8;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

/// A request of which the code is known.
pub struct Case {
    pub name: String,
    pub ask: Ask,
    pub code: i32,
}

/// A Filter whose answer is scripted.
pub fn filter(word: &str) -> Bytes {
    let candidates = vec![v1::ItemGroup { kind: 1, ids: (0..40).collect() }];
    let namespaces = vec![word.to_owned()];
    encode(&v1::FilterRequest { user: 7, namespaces, candidates, ..Default::default() })
}

/// A Mark whose answer is scripted.
pub fn mark(word: &str) -> Bytes {
    encode(&v1::MarkRequest { user: 7, namespace: word.to_owned(), ..Default::default() })
}

/// A whole Filter.
pub fn filter_ask(word: &str) -> Ask {
    ask(FILTER, [framed(0, &filter(word))])
}

fn case(name: impl Into<String>, code: i32, ask: Ask) -> Case {
    Case { name: name.into(), ask, code }
}

fn cut(bytes: &Bytes, size: usize) -> Vec<Bytes> {
    bytes.chunks(size).map(Bytes::copy_from_slice).collect()
}

/// All of them.
pub fn all() -> Vec<Case> {
    [answers(), pieces(), malformed(), headers(), paths()].into_iter().flatten().collect()
}

fn answers() -> Vec<Case> {
    let words = [
        ("say", OK),
        ("later", OK),
        ("time", OK),
        ("large", OK),
        ("invalid", INVALID),
        ("full", EXHAUSTED),
        ("drop", INTERNAL),
    ];
    let of = |path: &'static str, message: fn(&str) -> Bytes| {
        words.map(|(word, code)| {
            case(format!("{path} {word}"), code, ask(path, [framed(0, &message(word))]))
        })
    };
    let mut cases: Vec<Case> = of(FILTER, filter).into_iter().chain(of(MARK, mark)).collect();
    let unmark = v1::UnmarkRequest { namespace: "full".to_owned(), ..Default::default() };
    cases.push(case("another call", EXHAUSTED, ask(UNMARK, [framed(0, &encode(&unmark))])));
    cases
}

fn pieces() -> Vec<Case> {
    let say = framed(0, &filter("say"));
    let mut cases = Vec::new();
    for size in [1, 4, 5, 6, 100] {
        let ask = ask(FILTER, cut(&say, size));
        cases.push(case(format!("pieces of {size}"), OK, ask));
    }
    let apart = |ask| Ask { ends_apart: true, ..ask };
    cases.push(case("an empty frame ends it", OK, apart(ask(FILTER, [say.clone()]))));
    let with_empty = [Bytes::new(), say.slice(..7), Bytes::new(), say.slice(7..)];
    cases.push(case("empty frames between", OK, ask(FILTER, with_empty)));
    let mut late = HeaderMap::new();
    late.insert("grpc-timeout", HeaderValue::from_static("7S"));
    late.insert("seen-tag", HeaderValue::from_static("late"));
    let mut trailed = ask(FILTER, [framed(0, &filter("time"))]);
    trailed.trailers = Some(late.clone());
    cases.push(case("trailers", OK, trailed));
    let cut_off = Ask { trailers: Some(late), ..ask(FILTER, [say.slice(..9)]) };
    cases.push(case("trailers in the middle", INTERNAL, cut_off));
    let huge = framed(0, &vec![0xff; MESSAGE_BYTES_MAX]);
    cases.push(case("the largest message", OK, ask(FILTER, cut(&huge, 10_000))));
    cases
}

fn malformed() -> Vec<Case> {
    let say = framed(0, &filter("say"));
    let both = |more: &[u8]| {
        let mut bytes = say.to_vec();
        bytes.extend_from_slice(more);
        [Bytes::from(bytes)]
    };
    let too_large = u32::try_from(MESSAGE_BYTES_MAX + 1).expect("short").to_be_bytes();
    let announced = Bytes::from([&[0], &too_large[..]].concat());
    let sent = framed(0, &vec![1; MESSAGE_BYTES_MAX + 1]);
    vec![
        case("no message", INTERNAL, ask(FILTER, [])),
        case("an empty message", OK, ask(FILTER, [framed(0, b"")])),
        case("half a prefix", INTERNAL, ask(FILTER, [say.slice(..3)])),
        case("a prefix alone", INTERNAL, ask(FILTER, [say.slice(..5)])),
        case("half a message", INTERNAL, ask(FILTER, [say.slice(..20)])),
        case("two messages", OK, ask(FILTER, both(&framed(0, &filter("full"))))),
        case("a second one cut off", INTERNAL, ask(FILTER, both(&[0, 0, 0, 0, 9, 1]))),
        case("a second one compressed", INTERNAL, ask(FILTER, both(&[1, 0, 0, 0, 0]))),
        case("garbage after it", INTERNAL, ask(FILTER, both(&[9]))),
        case("compressed undeclared", INTERNAL, ask(FILTER, [framed(1, &filter("say"))])),
        case("an unknown flag", INTERNAL, ask(FILTER, [framed(2, &filter("say"))])),
        case("too large, announced", OUT_OF_RANGE, ask(FILTER, [announced])),
        case("too large, sent", OUT_OF_RANGE, ask(FILTER, cut(&sent, 16_000))),
        case("too large, as a mark", OUT_OF_RANGE, ask(MARK, cut(&sent, 16_000))),
        case("a message that is none", OK, ask(MARK, [framed(0, &[0xff; 90])])),
    ]
}

fn headers() -> Vec<Case> {
    let say = || filter_ask("say");
    let time = || filter_ask("time");
    let trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    vec![
        case("five seconds", OK, time().with("grpc-timeout", b"5S")),
        case("an hour", OK, time().with("grpc-timeout", b"1H")),
        case("no time", DEADLINE, time().with("grpc-timeout", b"0m")),
        case("no number", INVALID, time().with("grpc-timeout", b"soon")),
        case("a tag", OK, say().with("seen-tag", b"push")),
        case("a long tag", INVALID, say().with("seen-tag", &[b'x'; 49])),
        case("a tag of other bytes", INVALID, say().with("seen-tag", &[0xe9, 0xff])),
        case("a trace", OK, say().with("traceparent", trace)),
        case("a trace that is none", OK, say().with("traceparent", b"00-1-2-3")),
        case("gzip", UNIMPLEMENTED, say().with("grpc-encoding", b"gzip")),
        case("bytes as encoding", UNIMPLEMENTED, say().with("grpc-encoding", &[0xff, 0xfe])),
        case("identity", OK, say().with("grpc-encoding", b"identity")),
        case("gzip wished", OK, say().with("grpc-accept-encoding", b"gzip, identity")),
        case("another content type", OK, say().with("content-type", b"text/html")),
        case("no content type", OK, say().without("content-type")),
        case("a name for it", OK, say().with("content-type", b"application/grpc+proto")),
    ]
}

fn paths() -> Vec<Case> {
    let at = |path| Ask { path, ..filter_ask("say") };
    vec![
        case("a query", OK, at("/seen.v1.SeenService/Filter?user=1")),
        case("an unknown call", UNIMPLEMENTED, at("/seen.v1.SeenService/Filters")),
        case("an unknown service", UNIMPLEMENTED, at("/seen.v1.Nobody/Filter")),
        case("a longer path", UNIMPLEMENTED, at("/seen.v1.SeenService/Filter/")),
        case("no path", UNIMPLEMENTED, at("/")),
        case("a put", OK, Ask { method: "PUT", ..filter_ask("say") }),
    ]
}
