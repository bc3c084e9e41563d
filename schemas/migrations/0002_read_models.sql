-- The first read models: what the API answers queries from. Times are milliseconds since 1970, `shard` and
-- `sequence` a place in a log, `version` the aggregate's version a row stands for. Every key and index starts with
-- the tenant, so that no tenant's queries become slower by another's rows.
CREATE TABLE tenants (
    -- Always `platform`, whose rows the tenants are.
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    plan TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant, id)
);

CREATE TABLE users (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (tenant, id)
);

CREATE TABLE endpoints (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    url TEXT NOT NULL,
    -- A JSON array of filters.
    event_types TEXT NOT NULL,
    description TEXT,
    -- `enabled`, `disabled` or `removed`; removed endpoints stay, so that their versions stay contiguous.
    status TEXT NOT NULL,
    disabled_reason TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT endpoints_pkey PRIMARY KEY (tenant, id)
);

-- One row per event of a commit.
CREATE TABLE audit (
    tenant TEXT NOT NULL,
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    command TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    request_id TEXT,
    origin TEXT,
    -- The event's data as JSON, without what proves identity.
    data TEXT NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (tenant, shard, sequence, version)
);
CREATE INDEX audit_by_actor ON audit (tenant, actor, shard, sequence, version);
CREATE INDEX audit_by_action ON audit (tenant, action, shard, sequence, version);
CREATE INDEX audit_by_resource ON audit (tenant, resource_id, shard, sequence, version);

-- The messages themselves are read from the log, by their place in it.
CREATE TABLE messages (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (tenant, id)
);
CREATE INDEX messages_by_position ON messages (tenant, shard, sequence);
CREATE INDEX messages_by_type ON messages (tenant, type, shard, sequence);

CREATE TABLE deliveries (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    event TEXT NOT NULL,
    event_type TEXT NOT NULL,
    -- Where the message stands in its log: the order deliveries are listed in.
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    -- The order of the greatest fact seen, which is the one that holds.
    run BIGINT NOT NULL,
    step BIGINT NOT NULL,
    -- `pending`, `failed`, `delivered` or `dead`.
    status TEXT NOT NULL,
    last_status BIGINT,
    last_error TEXT,
    next_due BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    completed_at BIGINT,
    discarded_at BIGINT,
    CONSTRAINT deliveries_pkey PRIMARY KEY (tenant, id)
);
CREATE INDEX deliveries_by_message ON deliveries (tenant, shard, sequence, id);
CREATE INDEX deliveries_by_event ON deliveries (tenant, event);
CREATE INDEX deliveries_by_endpoint ON deliveries (tenant, endpoint, shard, sequence, id);
CREATE INDEX deliveries_by_status ON deliveries (tenant, status, shard, sequence, id);
CREATE INDEX deliveries_dead_letters ON deliveries (tenant, shard, sequence, id)
    WHERE status = 'dead' AND discarded_at IS NULL;

CREATE TABLE attempts (
    tenant TEXT NOT NULL,
    delivery TEXT NOT NULL,
    run BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    -- Tells a try repeated after a crash from a fact recorded twice.
    try_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    status BIGINT,
    error TEXT,
    detail TEXT,
    response_body TEXT,
    duration_ms BIGINT NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (tenant, delivery, run, attempt, try_id)
);

-- How many deliveries of a tenant are in each status: counting rows would grow slower with every delivery.
CREATE TABLE delivery_counts (
    tenant TEXT NOT NULL,
    status TEXT NOT NULL,
    deliveries BIGINT NOT NULL,
    CONSTRAINT delivery_counts_pkey PRIMARY KEY (tenant, status)
);

CREATE TABLE stats_totals (
    tenant TEXT NOT NULL,
    -- `users`, `endpoints` or `events`.
    name TEXT NOT NULL,
    total BIGINT NOT NULL,
    CONSTRAINT stats_totals_pkey PRIMARY KEY (tenant, name)
);

CREATE TABLE stats_event_types (
    tenant TEXT NOT NULL,
    type TEXT NOT NULL,
    total BIGINT NOT NULL,
    CONSTRAINT stats_event_types_pkey PRIMARY KEY (tenant, type)
);

CREATE TABLE stats_minutes (
    tenant TEXT NOT NULL,
    -- Whole minutes since 1970.
    minute BIGINT NOT NULL,
    events BIGINT NOT NULL,
    CONSTRAINT stats_minutes_pkey PRIMARY KEY (tenant, minute)
);
