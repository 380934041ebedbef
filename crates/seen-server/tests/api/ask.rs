//! Requests, and a caller that has all the time in the world: what is tested here is the answer, not
//! how fast a busy machine gives it.

use std::time::Duration;

use seen_proto::v1;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use tonic::Request;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

/// Longer than any machine is busy; no test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(50);
/// The same for a message of a stream.
pub const PATIENCE_MS: u32 = 50_000;
/// The kind of items where a test does not care.
pub const KIND: u32 = 1;
/// A namespace of the default configuration.
pub const READ: &str = "feed_read";
/// The other one.
pub const SENT: &str = "push_sent";

/// A request with a deadline that is not met by accident.
pub fn patient<T>(message: T) -> Request<T> {
    within(PATIENCE, message)
}

/// A request with this deadline.
pub fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Items of one kind.
pub fn group(kind: u32, ids: impl IntoIterator<Item = u64>) -> v1::ItemGroup {
    v1::ItemGroup { kind, ids: ids.into_iter().collect() }
}

/// Asks about items of [`KIND`].
pub fn filter(
    user: u64,
    namespaces: &[&str],
    ids: impl IntoIterator<Item = u64>,
) -> v1::FilterRequest {
    v1::FilterRequest {
        user,
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
        candidates: vec![group(KIND, ids)],
        ..Default::default()
    }
}

/// Marks items of [`KIND`] at storage's time.
pub fn mark(user: u64, namespace: &str, ids: impl IntoIterator<Item = u64>) -> v1::MarkRequest {
    let items = ids.into_iter().map(|id| v1::MarkItem { kind: KIND, id, marked_at_ms: None });
    v1::MarkRequest {
        user,
        namespace: namespace.to_owned(),
        items: items.collect(),
        token: Vec::new(),
    }
}

/// Unmarks items of [`KIND`].
pub fn unmark(user: u64, namespace: &str, ids: impl IntoIterator<Item = u64>) -> v1::UnmarkRequest {
    let items = vec![group(KIND, ids)];
    v1::UnmarkRequest { user, namespace: namespace.to_owned(), items, token: Vec::new() }
}

/// Forgets a user in one namespace.
pub fn forget(user: u64, namespace: &str) -> v1::ForgetRequest {
    let scope = v1::forget_request::Scope::Namespace(namespace.to_owned());
    v1::ForgetRequest { user, scope: Some(scope), token: Vec::new() }
}

/// Lists a history.
pub fn history(user: u64, namespace: &str) -> v1::HistoryRequest {
    v1::HistoryRequest { user, namespace: namespace.to_owned(), ..Default::default() }
}

/// Asks why an item of [`KIND`] is filtered.
pub fn explain(user: u64, namespace: &str, id: u64) -> v1::ExplainRequest {
    let namespace = namespace.to_owned();
    v1::ExplainRequest { user, namespace, kind: KIND, id, token: Vec::new() }
}

/// The level of an answer.
pub fn level(quality: &Option<v1::Quality>) -> v1::QualityLevel {
    quality.as_ref().expect("always present").level()
}

/// Asserts that an answer is not degraded, and gives its unread positions.
pub fn sound(answer: &v1::FilterResponse) -> &[u32] {
    let quality = answer.quality.as_ref().expect("always present");
    let (level, unknown) = (quality.level(), quality.unknown);
    assert_ne!(level, v1::QualityLevel::Degraded, "{quality:?}");
    assert_eq!((quality.reason(), unknown), (v1::DegradedReason::Unspecified, 0));
    &answer.unseen
}

/// A caller of the API, over a socket or in the process, whose calls succeed.
#[derive(Clone)]
pub struct Caller<T>(pub SeenServiceClient<T>);

impl<T> Caller<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    /// Filters.
    pub async fn filter(&mut self, request: v1::FilterRequest) -> v1::FilterResponse {
        self.0.filter(patient(request)).await.expect("answered").into_inner()
    }

    /// The unread ids of [`KIND`], of an answer that is not degraded.
    pub async fn unread(&mut self, user: u64, namespace: &str, ids: &[u64]) -> Vec<u64> {
        let answer = self.filter(filter(user, &[namespace], ids.iter().copied())).await;
        sound(&answer).iter().map(|at| ids[*at as usize]).collect()
    }

    /// Marks; the answer's token.
    pub async fn mark(&mut self, request: v1::MarkRequest) -> Vec<u8> {
        self.0.mark(patient(request)).await.expect("marked").into_inner().token
    }

    /// Unmarks; the answer's token.
    pub async fn unmark(&mut self, request: v1::UnmarkRequest) -> Vec<u8> {
        self.0.unmark(patient(request)).await.expect("unmarked").into_inner().token
    }

    /// Forgets.
    pub async fn forget(&mut self, request: v1::ForgetRequest) -> v1::ForgetResponse {
        self.0.forget(patient(request)).await.expect("forgotten").into_inner()
    }

    /// One page.
    pub async fn history(&mut self, request: v1::HistoryRequest) -> v1::HistoryResponse {
        self.0.history(patient(request)).await.expect("listed").into_inner()
    }

    /// All pages from the first on, each with its rows; every row's id is of the user asked for.
    pub async fn pages(&mut self, mut request: v1::HistoryRequest) -> Vec<Vec<v1::HistoryRow>> {
        let mut pages = Vec::new();
        loop {
            let page = self.history(request.clone()).await;
            pages.push(page.rows);
            assert!(pages.len() < 1_000, "the listing does not end");
            if page.next_page_token.is_empty() {
                return pages;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Explains an item of [`KIND`].
    pub async fn explain(&mut self, user: u64, namespace: &str, id: u64) -> v1::ExplainResponse {
        let request = patient(explain(user, namespace, id));
        self.0.explain(request).await.expect("explained").into_inner()
    }
}
