-- "SEEN": tells this file from other programs' databases.
PRAGMA application_id = 1397048654;

-- What this file is, and how far its commit log reaches: always exactly one row.
-- Unsigned 64-bit numbers are stored as the signed number with the same bits.
CREATE TABLE store (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    created_at   INTEGER NOT NULL, -- milliseconds since 1970
    partitions   INTEGER NOT NULL CHECK (partitions BETWEEN 1 AND 64),
    hash_key_id  INTEGER NOT NULL,
    hash_secret  BLOB    NOT NULL CHECK (length(hash_secret) = 16),
    timeline     INTEGER NOT NULL, -- drawn anew when the file is found to be a restored copy
    opens        INTEGER NOT NULL, -- how often it was opened for writing
    head         INTEGER NOT NULL, -- the last commit's number
    floor        INTEGER NOT NULL, -- the last commit whose events are no longer kept
    log_bytes    INTEGER NOT NULL  -- size of the events kept
) STRICT;

-- The histories kept here. A namespace's number in this file never changes, whatever the order of
-- the configuration; its rows are in the table history_<name>, made when it is first opened.
CREATE TABLE namespaces (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    bucket_ms   INTEGER NOT NULL, -- length of an expiry bucket; 0: rows were never counted in buckets
    zero_bucket INTEGER NOT NULL  -- what bucket 0 of rows from before expiry stands for; -1: still written
) STRICT;

-- How often a user was forgotten; no row means never.
CREATE TABLE user_epochs (
    namespace INTEGER NOT NULL,
    user      INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    PRIMARY KEY (namespace, user)
) STRICT, WITHOUT ROWID;

-- The change feed: all events of one commit for one namespace and partition.
-- id = commit number << 16 | namespace << 6 | partition.
CREATE TABLE commit_log (
    id           INTEGER PRIMARY KEY,
    committed_at INTEGER NOT NULL, -- milliseconds since 1970
    events       BLOB    NOT NULL
) STRICT;
