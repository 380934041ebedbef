//! The store on database servers passes the suite, on each kind of server; on MariaDB and MySQL together
//! with the feed of the binary log, which TiDB does not have. MariaDB is always tested;
//! TiDB where `scripts/tidb` has built it; MySQL where `scripts/mysql` has fetched it:
//! `scripts/mysql && cargo test -p seen-store --test mysql_conformance mysql`.

#[path = "servers/followed.rs"]
mod followed;
mod servers;

/// A fixture on a server of this kind; the test ends here where there is none.
macro_rules! on {
    ($kind:ident) => {
        match crate::servers::$kind() {
            Some(server) => server,
            None => return,
        }
    };
}

mod mariadb {
    use seen_store::conformance_tests;

    use crate::followed::Followed;

    conformance_tests!(
        Followed(on!(mariadb)),
        tokio::test(flavor = "multi_thread", worker_threads = 2)
    );
}

/// Four shards, each a database of its own.
mod sharded {
    use seen_store::conformance_tests;

    use crate::followed::Followed;
    use crate::servers::Sharded;

    conformance_tests!(
        Followed(Sharded(on!(mariadb), 4)),
        tokio::test(flavor = "multi_thread", worker_threads = 2)
    );
}

mod mysql {
    use seen_store::conformance_tests;

    use crate::followed::Followed;

    conformance_tests!(
        Followed(on!(mysql)),
        tokio::test(flavor = "multi_thread", worker_threads = 2)
    );
}

mod tidb {
    use seen_store::history_tests;

    history_tests!(on!(tidb), tokio::test(flavor = "multi_thread", worker_threads = 2));
}
