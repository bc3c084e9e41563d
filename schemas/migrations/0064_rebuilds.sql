-- Replays under way and done: how far each is, which generations it fills, and which process works at it. A process
-- that is no longer heard of loses it to another when `lease_until` is over. Times are milliseconds since 1970.
CREATE TABLE rebuilds (
    id TEXT NOT NULL,
    -- JSON: which projections, for which tenant, up to where, and whether to switch.
    plan TEXT NOT NULL,
    -- `building`, `indexing`, `comparing`, `catching_up`, `switching`, `done`, `cancelled` or `failed`.
    phase TEXT NOT NULL,
    -- JSON: the generation of each projection.
    generations TEXT NOT NULL,
    -- Records gone past, and records to go past as far as known.
    done BIGINT NOT NULL,
    total BIGINT NOT NULL,
    -- Records a second, lately.
    rate BIGINT NOT NULL,
    -- JSON: what the comparison with the live model found.
    differences TEXT,
    error TEXT,
    owner TEXT,
    lease_until BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT rebuilds_pkey PRIMARY KEY (id)
);
