-- The versions of tenants' settings, and how much tenants have of what quotas count.
CREATE TABLE settings_versions (
    tenant TEXT NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    request_id TEXT,
    -- The version that this one restored.
    restored BIGINT,
    -- JSON: an object with the settings that the tenant has set itself.
    overrides TEXT NOT NULL,
    CONSTRAINT settings_versions_pkey PRIMARY KEY (tenant, version)
);

CREATE TABLE usage (
    tenant TEXT NOT NULL,
    -- As the quota is called: `users`, `endpoints`, `api_keys`, `teams`.
    name TEXT NOT NULL,
    total BIGINT NOT NULL,
    CONSTRAINT usage_pkey PRIMARY KEY (tenant, name)
);
