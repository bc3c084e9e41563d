-- Time series of tenants, by the hour and by the day (UTC). They are folded from all three kinds of log; each table is
-- changed by records of one kind only.
CREATE TABLE series_events (
    tenant TEXT NOT NULL,
    -- Empty for all, or `type:invoice.paid`.
    part TEXT NOT NULL,
    -- `hour` or `day`.
    span TEXT NOT NULL,
    -- When the bucket begins, in milliseconds since 1970.
    at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    -- In the row of all and a day: how many types have rows of their own on it.
    types BIGINT NOT NULL,
    CONSTRAINT series_events_pkey PRIMARY KEY (tenant, part, span, at)
);

CREATE TABLE series_deliveries (
    tenant TEXT NOT NULL,
    -- Empty for all, `type:invoice.paid`, or `endpoint:ep_…`.
    part TEXT NOT NULL,
    span TEXT NOT NULL,
    at BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    dead BIGINT NOT NULL,
    -- Histograms as JSON; NULL where nothing was measured.
    latency TEXT,
    duration TEXT,
    types BIGINT NOT NULL,
    endpoints BIGINT NOT NULL,
    CONSTRAINT series_deliveries_pkey PRIMARY KEY (tenant, part, span, at)
);

CREATE TABLE series_users (
    tenant TEXT NOT NULL,
    span TEXT NOT NULL,
    at BIGINT NOT NULL,
    users BIGINT NOT NULL,
    CONSTRAINT series_users_pkey PRIMARY KEY (tenant, span, at)
);

CREATE TABLE series_user_days (
    tenant TEXT NOT NULL,
    -- When the day begins, in milliseconds since 1970.
    day BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    -- The hours in which the user was active, as the bits 0 to 23.
    hours BIGINT NOT NULL,
    CONSTRAINT series_user_days_pkey PRIMARY KEY (tenant, day, user_id)
);
