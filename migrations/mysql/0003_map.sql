-- The age of the newest map of shards that this one was told of: whoever goes by an older map is
-- refused. Raised before a shard moves to other servers (`seen shards --raise`). Always exactly one row.
CREATE TABLE IF NOT EXISTS seen_map (
    id    TINYINT UNSIGNED NOT NULL PRIMARY KEY, -- 1
    epoch INT UNSIGNED     NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = ascii;
INSERT IGNORE INTO seen_map (id, epoch) VALUES (1, 0);
