//! One user's session: what it has written, as a token that travels with every call (rule R5).

use std::sync::Arc;

use parking_lot::Mutex;
use seen_proto::limits::TOKEN_BYTES_MAX;
use seen_proto::status::ApiError;
use seen_proto::token::{Token, TokenError, WildcardSource};

/// One user's session. Clones are the same session; calls may run in parallel.
///
/// Every answer's token is merged into the session's, none is dropped: a scalar "newest token" would
/// forget all but one of several parallel writes (coherence row 28).
#[derive(Clone, Debug)]
pub struct Session {
    user: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    token: Vec<u8>,
    /// Raised whenever the token changes.
    revision: u64,
    /// True once an answer's token could neither be read nor kept.
    incomplete: bool,
}

/// The token that a call carried.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) token: Vec<u8>,
    revision: u64,
}

impl Session {
    /// A session of this user that has written nothing yet. All 2^64 numbers are valid.
    pub fn new(user: u64) -> Self {
        Self { user, state: Arc::default() }
    }

    /// Goes on with a session whose token was kept elsewhere, for example in a cookie.
    ///
    /// # Errors
    /// The token is too long or damaged. One of a later format is taken as it is.
    pub fn with_token(user: u64, token: &[u8]) -> Result<Self, ApiError> {
        match Token::cluster_of(token) {
            Ok(_) | Err(TokenError::Version { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let session = Self::new(user);
        session.state.lock().token = token.to_vec();
        Ok(session)
    }

    /// Whose session it is.
    pub fn user(&self) -> u64 {
        self.user
    }

    /// The token as of now; opaque, at most [`TOKEN_BYTES_MAX`] bytes. Empty = nothing was written.
    pub fn token(&self) -> Vec<u8> {
        self.state.lock().token.clone()
    }

    /// False if a write of this session could not be kept in its token: it was made by a server whose
    /// tokens this client cannot read, while other writes were under way. Filter answers of such a
    /// session are flagged. Upgrade the client, and begin a new session.
    pub fn is_complete(&self) -> bool {
        !self.state.lock().incomplete
    }

    /// What a call is to carry.
    pub(crate) fn carry(&self) -> Carried {
        let state = self.state.lock();
        Carried { token: state.token.clone(), revision: state.revision }
    }

    /// True if both are the same session, not only the same user.
    pub(crate) fn is(&self, other: &Session) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// A number that no other session that is alive has.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// Takes in the token of an answer to a call that carried `carried`.
    pub(crate) fn absorb(&self, carried: &Carried, answer: Vec<u8>, wildcards: &WildcardSource) {
        if answer.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.revision == carried.revision {
            // Nothing else was learned meanwhile, and the answer stands for what was carried.
            state.replace(answer);
        } else if answer != state.token {
            state.join(&answer, wildcards);
        }
    }
}

impl State {
    fn replace(&mut self, token: Vec<u8>) {
        if token.len() > TOKEN_BYTES_MAX {
            self.incomplete = true;
        } else if token != self.token {
            self.token = token;
            self.revision += 1;
        }
    }

    fn join(&mut self, answer: &[u8], wildcards: &WildcardSource) {
        if let Ok(Some(joined)) = merged(&self.token, answer, wildcards) {
            self.replace(joined);
        } else if self.token.len() + answer.len() <= TOKEN_BYTES_MAX {
            // Of a later format: bytes may be joined without being understood.
            let joined = [&self.token, answer].concat();
            self.replace(joined);
        } else {
            self.incomplete = true;
        }
    }
}

/// One token for both; `None` if both are empty.
fn merged(a: &[u8], b: &[u8], wildcards: &WildcardSource) -> Result<Option<Vec<u8>>, TokenError> {
    let Some(cluster) = Token::cluster_of(b)?.or(Token::cluster_of(a)?) else { return Ok(None) };
    let mut token = Token::decode(a, cluster)?;
    // The wildcard is drawn with both tokens in hand, as rule R9 asks.
    token.merge(&Token::decode(b, cluster)?, || wildcards.fresh());
    let mut out = Vec::new();
    token.encode(cluster, &mut out);
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use seen_filter::{FeedId, Incarnation, NamespaceId, Partition, Shard};
    use seen_proto::limits::TOKEN_FRAME_BYTES_MAX;
    use seen_proto::token::{AckSeq, ClusterId, Element, WriteClaim};

    use super::*;

    const CLUSTER: ClusterId = ClusterId::new(7);

    fn wildcards() -> WildcardSource {
        WildcardSource::new(Incarnation::new(99))
    }

    fn element(incarnation: u64, seq: u64) -> Element {
        Element::Write(WriteClaim {
            feed: FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(0)),
            incarnation: Incarnation::new(incarnation),
            seq: AckSeq::new(seq),
            stamp: None,
        })
    }

    fn token(cluster: ClusterId, elements: &[Element]) -> Vec<u8> {
        let mut token = Token::new();
        elements.iter().for_each(|element| token.add(*element, || wildcards().fresh()));
        let mut out = Vec::new();
        token.encode(cluster, &mut out);
        out
    }

    fn elements(session: &Session) -> Vec<Element> {
        Token::decode(&session.token(), CLUSTER).unwrap().elements().to_vec()
    }

    #[test]
    fn an_answer_replaces_the_token_that_it_stands_for() {
        let session = Session::new(1);
        let carried = session.carry();
        session.absorb(&carried, token(CLUSTER, &[element(1, 1)]), &wildcards());
        let carried = session.carry();
        session.absorb(&carried, token(CLUSTER, &[element(1, 2)]), &wildcards());
        assert_eq!(elements(&session), [element(1, 2)]);
        session.absorb(&session.carry(), Vec::new(), &wildcards());
        assert_eq!(elements(&session), [element(1, 2)], "an empty one says: keep yours");
    }

    #[test]
    fn parallel_writes_are_all_kept() {
        let session = Session::new(1);
        let (a, b) = (session.carry(), session.carry());
        session.absorb(&a, token(CLUSTER, &[element(1, 5)]), &wildcards());
        session.absorb(&b, token(CLUSTER, &[element(2, 3)]), &wildcards());
        assert_eq!(elements(&session), [element(1, 5), element(2, 3)]);
        assert!(session.is_complete());
    }

    #[test]
    fn many_parallel_writes_collapse_and_stay_small() {
        let session = Session::new(1);
        let carried: Vec<Carried> = (0..100).map(|_| session.carry()).collect();
        let source = wildcards();
        for (incarnation, carried) in (0..).zip(&carried) {
            session.absorb(carried, token(CLUSTER, &[element(incarnation, 1)]), &source);
            assert!(session.token().len() <= TOKEN_FRAME_BYTES_MAX);
        }
        assert!(elements(&session).iter().any(|one| matches!(one, Element::Wildcard(_))));
        assert!(session.is_complete());
    }

    #[test]
    fn a_token_of_a_later_format_is_kept_unread_while_there_is_room() {
        let session = Session::new(1);
        let carried: Vec<Carried> = (0..3).map(|_| session.carry()).collect();
        let later = |byte: u8| vec![byte; TOKEN_BYTES_MAX / 2];
        session.absorb(&carried[0], later(200), &wildcards());
        session.absorb(&carried[1], later(201), &wildcards());
        assert_eq!(session.token(), [later(200), later(201)].concat());
        assert!(session.is_complete());
        session.absorb(&carried[2], later(202), &wildcards());
        assert!(!session.is_complete());
    }

    #[test]
    fn a_kept_token_is_checked_when_it_comes_back() {
        let good = token(CLUSTER, &[element(1, 1)]);
        assert_eq!(Session::with_token(5, &good).unwrap().token(), good);
        let garbage = Session::with_token(5, &[1, 2, 3]).unwrap_err();
        assert_eq!(garbage.violations[0].field, "token");
        assert_eq!(Session::with_token(5, &[200, 2, 3]).unwrap().token(), [200, 2, 3]);
        let long = Session::with_token(5, &[0; TOKEN_BYTES_MAX + 1]).unwrap_err();
        assert!(long.message.contains("at most 1024"), "{long}");
    }

    #[test]
    fn tokens_of_two_clusters_are_not_mixed_into_one() {
        let session = Session::new(1);
        let (a, b) = (session.carry(), session.carry());
        session.absorb(&a, token(CLUSTER, &[element(1, 1)]), &wildcards());
        session.absorb(&b, token(ClusterId::new(8), &[element(1, 1)]), &wildcards());
        // The server that gets it will say so: TOKEN_OTHER_CLUSTER.
        assert!(Token::cluster_of(&session.token()).is_err());
    }
}
