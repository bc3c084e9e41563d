-- How far each projection has folded each log. A checkpoint changes in the same transaction as the rows it stands
-- for, and only from the sequence its projector believes it to be at: so a second projector is fenced off, and
-- after a crash the rows are exactly the fold of the log up to here.
CREATE TABLE checkpoints (
    projection TEXT NOT NULL,
    version BIGINT NOT NULL,
    log TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    -- When the log stored the record at `sequence`, in milliseconds since 1970: how old the read model is.
    stored_at BIGINT NOT NULL,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, version, log)
);

-- Tenants that a projection cannot go on with: a record of theirs could not be read or applied. Nothing of theirs
-- is folded from `sequence` on, until a program that can do it folds them again from there.
CREATE TABLE parked (
    projection TEXT NOT NULL,
    tenant TEXT NOT NULL,
    log TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    error TEXT NOT NULL,
    CONSTRAINT parked_pkey PRIMARY KEY (projection, tenant, log)
);
