-- API keys as their tenants see them; what proves them is not here. Times are milliseconds since 1970.
CREATE TABLE api_keys (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- A JSON array of grants.
    scopes TEXT NOT NULL,
    expires_at BIGINT,
    -- Both or neither.
    rate_requests BIGINT,
    rate_seconds BIGINT,
    -- When it got its present text, if that is not its first, and until when the one before is good.
    rotated_at BIGINT,
    previous_until BIGINT,
    revoked_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT api_keys_pkey PRIMARY KEY (tenant, id)
);
