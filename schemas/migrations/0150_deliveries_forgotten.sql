-- What was forgotten of a generation of the deliveries: what came to its end before. It is no fold of the log, for it
-- depends on the clock; comparisons with a fold pass these rows over.
CREATE TABLE deliveries_forgotten (
    generation BIGINT NOT NULL,
    -- Milliseconds since 1970.
    before BIGINT NOT NULL,
    CONSTRAINT deliveries_forgotten_pkey PRIMARY KEY (generation)
);
