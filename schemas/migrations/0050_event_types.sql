-- The event types that tenants have registered, and every version of their schemas. A retired type stays, so that
-- its versions stay contiguous, and can be registered again.
CREATE TABLE event_types (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    -- 1: people should go over to another type.
    deprecated BIGINT NOT NULL,
    -- `registered` or `retired`.
    status TEXT NOT NULL,
    -- The number of the latest schema, and the schema as JSON.
    latest BIGINT NOT NULL,
    json_schema TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT event_types_pkey PRIMARY KEY (tenant, id)
);
CREATE INDEX event_types_by_creation ON event_types (tenant, created_at, id);

CREATE TABLE event_type_versions (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    number BIGINT NOT NULL,
    json_schema TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT event_type_versions_pkey PRIMARY KEY (tenant, id, number)
);
