-- The roles of each tenant. A tenant's roles are one aggregate, so its version has a table of its own.
CREATE TABLE role_graphs (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT role_graphs_pkey PRIMARY KEY (tenant, id)
);

CREATE TABLE roles (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    -- JSON arrays: the role's own grants, and the ids of the roles it inherits from.
    permissions TEXT NOT NULL,
    inherits TEXT NOT NULL,
    template TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT roles_pkey PRIMARY KEY (tenant, id)
);
