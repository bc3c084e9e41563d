-- The embedded engine's file: every log, the queue and the key-value buckets.
-- Times are microseconds since 1970. Statements must bear being run again on a file that has them.

-- `removed` is the highest sequence that retention has taken away.
CREATE TABLE IF NOT EXISTS logs (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    name    TEXT    NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    forever INTEGER NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0
);

-- Sequences that were given out by a log whose records were lost: it begins again after them.
CREATE TABLE IF NOT EXISTS floors (
    log      INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL
);

-- `place` is the log's number and the record's sequence in one (number << 45 | sequence), so that a log's records
-- lie together in order and need no further index.
CREATE TABLE IF NOT EXISTS records (
    place      INTEGER PRIMARY KEY,
    log        INTEGER NOT NULL,
    subject    TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    stored_at  INTEGER NOT NULL,
    payload    BLOB    NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS records_message_id ON records (log, message_id);
CREATE INDEX IF NOT EXISTS records_subject ON records (log, subject);

CREATE TRIGGER IF NOT EXISTS records_are_never_changed BEFORE UPDATE ON records
BEGIN
    SELECT RAISE(ABORT, 'a record is never changed');
END;
CREATE TRIGGER IF NOT EXISTS records_kept_for_ever BEFORE DELETE ON records
WHEN (SELECT forever FROM logs WHERE number = OLD.log) IS NOT 0
BEGIN
    SELECT RAISE(ABORT, 'a record of this log is kept for ever');
END;

-- A job can be leased once `free_at` has passed: its due time while it waits, the lease's end while it is leased.
CREATE TABLE IF NOT EXISTS jobs (
    id          TEXT    PRIMARY KEY,
    tenant      TEXT    NOT NULL,
    lane        TEXT    NOT NULL,
    payload     BLOB    NOT NULL,
    enqueued_at INTEGER NOT NULL,
    free_at     INTEGER NOT NULL,
    token       INTEGER,
    times       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_free_at ON jobs (free_at);

-- Ids of jobs that are gone but were enqueued lately, so that they are not enqueued again by a repeated call.
CREATE TABLE IF NOT EXISTS recent_jobs (
    id          TEXT    PRIMARY KEY,
    enqueued_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS jobs_leave_their_id AFTER DELETE ON jobs
BEGIN
    INSERT INTO recent_jobs (id, enqueued_at) VALUES (OLD.id, OLD.enqueued_at)
        ON CONFLICT (id) DO UPDATE SET enqueued_at = excluded.enqueued_at;
END;

CREATE TABLE IF NOT EXISTS dead_letters (
    cursor  INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant  TEXT    NOT NULL,
    lane    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    payload BLOB    NOT NULL,
    since   INTEGER NOT NULL,
    UNIQUE (tenant, lane, id)
);

-- A rewrite replaces the row, and AUTOINCREMENT never gives a number out twice: so the row's number is its revision.
CREATE TABLE IF NOT EXISTS entries (
    revision   INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket     TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      BLOB    NOT NULL,
    expires_at INTEGER,
    UNIQUE (bucket, key)
);
CREATE INDEX IF NOT EXISTS entries_expires_at ON entries (expires_at) WHERE expires_at IS NOT NULL;

PRAGMA user_version = 1;
