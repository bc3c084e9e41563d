-- What the logs of events are compared with: never trust the broker's disk alone.

-- Every record of every log of events, verbatim, written in the transaction that moves the projection `archive`.
-- It is the check on the log and what a lost log is restored from, so it is never made anew from the log, and none
-- of it is ever changed. Not a tenant table: no query reads it.
CREATE TABLE event_archive (
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT NOT NULL,
    -- When the log stored it, in milliseconds since 1970.
    stored_at BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    CONSTRAINT event_archive_pkey PRIMARY KEY (shard, sequence)
);

-- The last record of each log in the archive, with the SHA-256 of what was appended, in hexadecimal digits.
CREATE TABLE event_fences (
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    digest TEXT NOT NULL,
    CONSTRAINT event_fences_pkey PRIMARY KEY (shard)
);

-- When each log was made, in microseconds since 1970, as the first process has found it that knew this database.
CREATE TABLE event_log_origins (
    shard BIGINT NOT NULL,
    created BIGINT NOT NULL,
    CONSTRAINT event_log_origins_pkey PRIMARY KEY (shard)
);
