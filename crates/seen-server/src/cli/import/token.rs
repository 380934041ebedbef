//! What an import has written, as one token: whoever carries it reads all of the import.

use rand::random;
use seen_client::Session;
use seen_filter::Incarnation;
use seen_proto::token::{ClusterId, Token, TokenError, WildcardSource};

/// Merges the tokens of all sessions of an import.
#[derive(Debug)]
pub(super) struct Written {
    token: Token,
    cluster: Option<ClusterId>,
    wildcards: WildcardSource,
}

impl Written {
    pub(super) fn new() -> Self {
        let wildcards = WildcardSource::new(Incarnation::new(random()));
        Self { token: Token::new(), cluster: None, wildcards }
    }

    /// Takes in what a session has written.
    ///
    /// # Errors
    /// A token that this program cannot read.
    pub(super) fn take(&mut self, session: &Session) -> Result<(), TokenError> {
        let bytes = session.token();
        let Some(cluster) = Token::cluster_of(&bytes)? else { return Ok(()) };
        let token = Token::decode(&bytes, cluster)?;
        self.cluster = Some(cluster);
        // The wildcard is drawn with both tokens in hand, as rule R9 asks.
        self.token.merge(&token, || self.wildcards.fresh());
        Ok(())
    }

    /// The token; empty if nothing was written.
    pub(super) fn token(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(cluster) = self.cluster {
            self.token.encode(cluster, &mut bytes);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use seen_filter::{FeedId, NamespaceId, Partition, Shard};
    use seen_proto::token::{AckSeq, Element, WriteClaim};

    use super::*;

    /// The session of a write that feed partition `partition` carries.
    fn session(partition: u16, seq: u64) -> Session {
        let mut token = Token::new();
        let element = Element::Write(WriteClaim {
            feed: FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(partition)),
            incarnation: Incarnation::new(7),
            seq: AckSeq::new(seq),
            stamp: None,
        });
        let no_wildcard = || WildcardSource::new(Incarnation::new(1)).fresh();
        token.add(element, no_wildcard);
        let mut bytes = Vec::new();
        token.encode(ClusterId::new(5), &mut bytes);
        Session::with_token(1, &bytes).expect("a token")
    }

    #[test]
    fn one_token_stands_for_all_sessions() {
        let mut written = Written::new();
        assert!(written.token().is_empty());
        for (partition, seq) in [(0, 3), (1, 9), (0, 8)] {
            written.take(&session(partition, seq)).expect("taken");
        }
        let token = Token::decode(&written.token(), ClusterId::new(5)).expect("a token");
        let mut expected = Written::new();
        expected.take(&session(0, 8)).expect("taken");
        expected.take(&session(1, 9)).expect("taken");
        assert_eq!(token, expected.token);
        assert_eq!(token.elements().len(), 2);
    }
}
