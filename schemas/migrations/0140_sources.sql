-- The sources of tenants: other systems whose webhooks they receive. Their secrets are not here.
CREATE TABLE sources (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- How it is set, as JSON.
    settings TEXT NOT NULL,
    -- `enabled`, `disabled` or `removed`.
    status TEXT NOT NULL,
    disabled_reason TEXT,
    -- Until when the secret before the present one counts too; NULL where it was never rotated.
    previous_secret_valid_until BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT sources_pkey PRIMARY KEY (tenant, id)
);
