-- What this database is: always exactly one row. Made once; every node reads it.
CREATE TABLE IF NOT EXISTS seen_store (
    id            TINYINT UNSIGNED NOT NULL PRIMARY KEY CLUSTERED, -- 1
    created_at_ms BIGINT UNSIGNED  NOT NULL,             -- milliseconds since 1970
    hash_key_id   INT UNSIGNED     NOT NULL,
    hash_secret   BINARY(16)       NOT NULL,             -- the same on every shard
    timeline      BIGINT UNSIGNED  NOT NULL,             -- drawn anew after a restore
    shard         SMALLINT UNSIGNED NOT NULL,            -- which logical shard this is, from 0
    shards        SMALLINT UNSIGNED NOT NULL             -- how many there are: a power of two
);

-- The histories kept here. A namespace's number in this database never changes, whatever the order of
-- the configuration. Its rows are in the table history_<name>, made by `seen migrate`.
CREATE TABLE IF NOT EXISTS seen_namespaces (
    id        SMALLINT UNSIGNED NOT NULL PRIMARY KEY CLUSTERED,
    name      VARCHAR(48)       NOT NULL UNIQUE,
    bucket_ms BIGINT UNSIGNED   NOT NULL -- length of an expiry bucket; 0: rows are kept for ever
);

-- What passes through the change feed in the order of the rows around it: the fences of rule R9
-- (writer: one life of one process; seq: the fence's number) and the forgets (writer 0; seq: the
-- user's epoch). Partitioned feeds partition it by user_id, as they do the histories.
CREATE TABLE IF NOT EXISTS seen_control (
    user_id   BIGINT UNSIGNED   NOT NULL,
    namespace SMALLINT UNSIGNED NOT NULL, -- seen_namespaces.id
    writer    BIGINT UNSIGNED   NOT NULL,
    seq       BIGINT UNSIGNED   NOT NULL,
    at_ms     BIGINT UNSIGNED   NOT NULL, -- milliseconds since 1970; old fences are removed by it
    PRIMARY KEY (user_id, namespace, writer) CLUSTERED
);

-- Who does the background work of this database, and until when if it does not say so again.
CREATE TABLE IF NOT EXISTS seen_leases (
    name     VARCHAR(32)     NOT NULL PRIMARY KEY CLUSTERED,
    holder   BIGINT UNSIGNED NOT NULL,
    until_ms BIGINT UNSIGNED NOT NULL -- by the storage's clock
);
