//! Tonic's client, and those of others, tell the same of both fronts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use tokio::process::Command;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::cases::{filter, mark};
use super::stage::Stage;
use super::{HANG, tools};

const WORDS: [&str; 7] = ["say", "later", "time", "large", "invalid", "full", "drop"];

async fn client(to: SocketAddr) -> SeenServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address");
    SeenServiceClient::new(endpoint.connect().await.expect("it listens"))
}

/// All that a client can see of an answer, but the time of day.
fn seen<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> String {
    let listed = |metadata: &tonic::metadata::MetadataMap| {
        let headers = metadata.as_ref().iter().filter(|(name, _)| *name != "date");
        headers.map(|(name, value)| (name.to_string(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    match answer {
        Ok(answer) => format!("{:?} {:?}", listed(answer.metadata()), answer.get_ref()),
        Err(status) => format!(
            "{:?} {:?} {:?} {:?}",
            status.code(),
            status.message(),
            status.details(),
            listed(status.metadata())
        ),
    }
}

fn filter_request(word: &str) -> v1::FilterRequest {
    v1::FilterRequest { user: 1, namespaces: vec![word.to_owned()], ..Default::default() }
}

fn mark_request(word: &str) -> v1::MarkRequest {
    v1::MarkRequest { user: 1, namespace: word.to_owned(), ..Default::default() }
}

async fn by_tonic(to: SocketAddr) -> Vec<String> {
    let mut client = client(to).await;
    let mut told = Vec::new();
    for word in WORDS {
        told.push(seen(client.filter(filter_request(word)).await));
        told.push(seen(client.mark(mark_request(word)).await));
        let unmark = v1::UnmarkRequest { namespace: word.to_owned(), ..Default::default() };
        told.push(seen(client.unmark(unmark).await));
    }
    let mut tagged = Request::new(filter_request("time"));
    tagged.metadata_mut().insert("seen-tag", "push".parse().expect("a value"));
    tagged.metadata_mut().insert("grpc-timeout", "5S".parse().expect("a value"));
    told.push(seen(client.filter(tagged).await));
    let asks = WORDS.map(|word| v1::FilterStreamRequest {
        request_id: word.len() as u64,
        filter: Some(filter_request(word)),
        timeout_ms: 900,
    });
    let answers = client.filter_stream(tokio_stream::iter(asks)).await.expect("opened");
    let mut answers: Vec<String> =
        answers.into_inner().map(|answer| format!("{answer:?}")).collect().await;
    answers.sort();
    told.extend(answers);
    told
}

#[tokio::test]
async fn tonics_client_cannot_tell_them_apart() {
    let [tonic, ours] = Stage::both().await;
    let expected = timeout(HANG, by_tonic(tonic.address)).await.expect("no hang");
    let told = timeout(HANG, by_tonic(ours.address)).await.expect("no hang");
    assert_eq!(told, expected);
    assert!(told.iter().any(|one| one.starts_with("ResourceExhausted")), "{told:?}");
}

#[tokio::test]
async fn streams_carry_the_tag_and_tell_errors_one_by_one() {
    use v1::filter_users_response::Result as Pushed;
    let [_, ours] = Stage::both().await;
    let mut client = client(ours.address).await;
    fn tagged<T>(message: T, tag: &str) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("seen-tag", tag.parse().expect("a value"));
        request
    }
    let asks = || {
        let mark = Some(mark_request("say"));
        tokio_stream::iter([v1::MarkStreamRequest { request_id: 3, mark, timeout_ms: 0 }])
    };
    let answers = client.mark_stream(tagged(asks(), "push")).await.expect("opened");
    let answer = answers.into_inner().next().await.expect("one").expect("answered");
    let Some(v1::mark_stream_response::Result::Mark(marked)) = answer.result else {
        panic!("{answer:?}");
    };
    let said = String::from_utf8(marked.token).expect("UTF-8");
    assert_eq!((answer.request_id, said.as_str()), (3, r#"mark b"push" None"#));
    let refused = client.mark_stream(tagged(asks(), &"x".repeat(49))).await.expect_err("too long");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let words = ["say", "full", "drop"];
    let asks = words.map(|word| v1::FilterUsersRequest {
        request_id: 5,
        namespaces: vec![word.to_owned()],
        ..Default::default()
    });
    let answers = client.filter_users(tokio_stream::iter(asks)).await.expect("opened");
    let answers: Vec<_> = answers.into_inner().collect().await;
    let mut codes = Vec::new();
    for answer in answers {
        let answer = answer.expect("the stream goes on");
        assert_eq!(answer.request_id, 5);
        codes.push(match answer.result {
            Some(Pushed::Error(error)) => error.code,
            _ => 0,
        });
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 8, 13]);
}

#[tokio::test]
async fn a_client_whose_time_is_over_leaves() {
    for stage in Stage::both().await {
        let mut client = client(stage.address).await;
        let mut request = Request::new(filter_request("hold"));
        request.set_timeout(Duration::from_millis(20));
        let status = client.filter(request).await.expect_err("its time is over");
        assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
        let gone = stage.script.until(|log| log.abandoned == 1);
        timeout(HANG, gone).await.unwrap_or_else(|_| panic!("{} waits on", stage.name));
    }
}

/// What grpcurl (grpc-go) prints.
async fn by_grpcurl(grpcurl: &std::path::Path, to: SocketAddr) -> Vec<String> {
    let mut told = Vec::new();
    let mut run = async |arguments: &[&str]| {
        let mut command = Command::new(grpcurl);
        command.arg("-plaintext").args(["-H", "seen-tag: push", "-v"]).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(HANG, command.output()).await.expect("no hang").expect("it runs");
        let all = [&output.stdout[..], &output.stderr[..]].concat();
        let all = String::from_utf8_lossy(&all).into_owned();
        // Tonic's server says the time of day.
        let kept = all.lines().filter(|line| !line.trim_start().starts_with("date:"));
        told.push(format!("{:?}\n{}", output.status.code(), kept.collect::<Vec<_>>().join("\n")));
    };
    let to = to.to_string();
    for word in WORDS {
        let ask = format!(r#"{{"user": 1, "namespaces": ["{word}"]}}"#);
        run(&["-d", &ask, &to, "seen.v1.SeenService/Filter"]).await;
        let ask = format!(r#"{{"user": 1, "namespace": "{word}"}}"#);
        run(&["-d", &ask, &to, "seen.v1.SeenService/Mark"]).await;
    }
    run(&["-d", r#"{"namespace": "full"}"#, &to, "seen.v1.SeenService/Unmark"]).await;
    run(&[&to, "list"]).await;
    told
}

#[tokio::test]
async fn grpc_gos_client_cannot_tell_them_apart() {
    let Some(grpcurl) = tools::grpcurl() else { return };
    let [tonic, ours] = Stage::both().await;
    let expected = by_grpcurl(&grpcurl, tonic.address).await;
    let told = by_grpcurl(&grpcurl, ours.address).await;
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert!(told[0].starts_with("Some(0)") && told[0].contains("\"token\""), "{}", told[0]);
    assert!(told[8].contains("InvalidArgument"), "{}", told[8]);
}

/// What ghz (grpc-go) counts of many calls at once, over several connections: how many ended with each code, and in which words.
async fn by_ghz(
    ghz: &std::path::Path,
    descriptors: &std::path::Path,
    to: SocketAddr,
) -> Vec<String> {
    let mut told = Vec::new();
    let (to, descriptors) = (to.to_string(), descriptors.display().to_string());
    for word in WORDS {
        for (call, ask) in [
            ("Filter", format!(r#"{{"user": 1, "namespaces": ["{word}"]}}"#)),
            ("Mark", format!(r#"{{"user": 1, "namespace": "{word}"}}"#)),
        ] {
            let mut command = Command::new(ghz);
            command.args(["--insecure", "--protoset", &descriptors, "-O", "json", "-n", "300"]);
            command.args(["-c", "30", "--connections", "3", "--timeout", "50s", "-d", &ask]);
            command.args(["--call", &format!("seen.v1.SeenService.{call}"), &to]);
            command.stdin(Stdio::null()).kill_on_drop(true);
            let output = timeout(HANG, command.output()).await.expect("no hang").expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr);
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{error}: {said}"));
            let (codes, words) = (&report["statusCodeDistribution"], &report["errorDistribution"]);
            told.push(format!("{call} {word}: {} {codes} {words}", report["count"]));
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_go_under_load_cannot_tell_them_apart() {
    let Some(ghz) = tools::ghz() else { return };
    let [tonic, ours] = Stage::both().await;
    let descriptors = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(descriptors.path(), seen_proto::FILE_DESCRIPTOR_SET).expect("written");
    let expected = by_ghz(&ghz, descriptors.path(), tonic.address).await;
    let told = by_ghz(&ghz, descriptors.path(), ours.address).await;
    assert_eq!(told, expected);
    assert!(told[0].contains(r#"300 {"OK":300}"#), "{}", told[0]);
    assert!(told[10].contains(r#"{"ResourceExhausted":300}"#), "{}", told[10]);
}

/// What Python's grpcio tells: a line of JSON for each call.
async fn by_grpcio(python: &std::path::Path, to: SocketAddr) -> Vec<serde_json::Value> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fronts/grpcio.py")).arg(to.to_string());
    for word in WORDS {
        command.args(["Filter", &hex(&filter(word)), "Mark", &hex(&mark(word))]);
    }
    let output = timeout(HANG, command.kill_on_drop(true).output()).await;
    let output = output.expect("no hang").expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn grpc_cores_client_cannot_tell_them_apart() {
    let Some(python) = tools::python() else { return };
    let [tonic, ours] = Stage::both().await;
    let expected = by_grpcio(&python, tonic.address).await;
    let told = by_grpcio(&python, ours.address).await;
    assert_eq!(told, expected);
    // Those of the script, and what it asks of itself.
    assert_eq!(told.len(), 2 * WORDS.len() + 3, "{told:?}");
    assert_eq!(told[0]["code"], "OK", "{told:?}");
    assert_eq!(ours.script.log(), tonic.script.log());
}
