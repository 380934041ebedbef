//! Which pool a request is for.

use seen_api::Call;
use seen_cluster::map::ResolvedMap;
use seen_filter::UserId;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::wire::{RouteCall, RouteShape};

/// Where whom a request is about does not matter.
pub(crate) const ANYBODY: RouteCall<'static> =
    RouteCall { user: UserId::new(0), namespace: "", has_token: true };

/// How whom a call is about is read; `None` for those about many.
pub(crate) const fn shape(call: Call) -> Option<RouteShape> {
    match call {
        Call::Filter => Some(RouteShape::Filter),
        Call::Mark => Some(RouteShape::Mark),
        Call::Unmark => Some(RouteShape::Unmark),
        Call::Forget => Some(RouteShape::Forget),
        Call::History => Some(RouteShape::History),
        Call::Explain => Some(RouteShape::Explain),
        Call::FilterUsers => None,
    }
}

/// Where the pool of a request is in the map: by its tag, or else by its namespace.
///
/// # Errors
/// No pool has this tag.
pub(crate) fn pool(map: &ResolvedMap, tag: &[u8], namespace: &str) -> Result<usize, ApiError> {
    let by_tag = match tag {
        [] => map.pool_index(map.map.tag_for(namespace)),
        tag => str::from_utf8(tag).ok().and_then(|tag| map.pool_index(tag)),
    };
    by_tag.ok_or_else(|| {
        let shown = String::from_utf8_lossy(tag);
        let known: Vec<&str> = map.pools.iter().map(|pool| pool.pool.tag()).collect();
        let what = format!("{shown:?} is no pool of this cluster; known are {}", known.join(", "));
        ApiError::invalid("tag", what)
    })
}

/// There is no map yet.
pub(crate) fn no_map() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "this proxy has no map of slots yet; try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn a_pool_is_found_by_tag_and_by_namespace() {
        let map = fake::map(1, &[("feed", 1, 1), ("push", 1, 1)]);
        let pool = |tag: &str, namespace: &str| pool(&map, tag.as_bytes(), namespace);
        assert_eq!(pool("", "feed_read"), Ok(0), "the default");
        assert_eq!(pool("", "push_sent"), Ok(1), "the namespace's");
        assert_eq!(pool("feed", "push_sent"), Ok(0), "the tag goes first");
        let error = pool("nightly", "feed_read").expect_err("no such pool");
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.message.contains("\"nightly\"") && error.message.contains("feed, push"));
        assert!(super::pool(&map, &[0xff], "feed_read").is_err());
    }
}
