-- Read models have generations: copies of a projection's tables, each with its own checkpoints. Queries read the one
-- that is `live`; a replay builds another beside it (`building`) and switches by changing these words, in one
-- transaction; the one before stays as `previous` until it is dropped; an `inspection` copy stands at a past position.
-- Generation 0 are the tables the migrations make, generation 7 of `users` is `users_g7`.
CREATE TABLE checkpoints_of_generations (
    projection TEXT NOT NULL,
    version BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    log TEXT NOT NULL,
    status TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    -- When the log stored the record at `sequence`, in milliseconds since 1970.
    stored_at BIGINT NOT NULL,
    -- The last time at which nothing was known to be missing, in milliseconds since 1970: how old the read model is.
    fresh_at BIGINT NOT NULL,
    PRIMARY KEY (projection, generation, log)
);
INSERT INTO checkpoints_of_generations
    SELECT projection, version, 0, log, 'live', sequence, stored_at, stored_at FROM checkpoints;
DROP TABLE checkpoints;
ALTER TABLE checkpoints_of_generations RENAME TO checkpoints;

CREATE TABLE parked_of_generations (
    projection TEXT NOT NULL,
    generation BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    log TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (projection, generation, tenant, log)
);
INSERT INTO parked_of_generations SELECT projection, 0, tenant, log, sequence, error FROM parked;
DROP TABLE parked;
ALTER TABLE parked_of_generations RENAME TO parked;
