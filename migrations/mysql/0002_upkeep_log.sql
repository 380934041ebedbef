-- What the background work changed, for operators; only the newest entries are kept.
CREATE TABLE IF NOT EXISTS seen_upkeep_log (
    id    BIGINT UNSIGNED NOT NULL PRIMARY KEY, -- counted from 1 without holes
    at_ms BIGINT UNSIGNED NOT NULL,             -- by the storage's clock
    what  VARCHAR(255)    NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = ascii;
