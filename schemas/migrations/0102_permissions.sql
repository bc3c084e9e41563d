-- Who holds which permission, and why: for looking, not for deciding.
-- The users that are active.
CREATE TABLE permission_users (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    CONSTRAINT permission_users_pkey PRIMARY KEY (tenant, user_id)
);

-- The roles that users have.
CREATE TABLE permission_user_roles (
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    user_id TEXT NOT NULL,
    CONSTRAINT permission_user_roles_pkey PRIMARY KEY (tenant, role, user_id)
);
CREATE INDEX permission_user_roles_by_user ON permission_user_roles (tenant, user_id, role);

-- What users are allowed and denied by themselves.
CREATE TABLE permission_own (
    tenant TEXT NOT NULL,
    permission TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- `allow` or `deny`.
    effect TEXT NOT NULL,
    CONSTRAINT permission_own_pkey PRIMARY KEY (tenant, permission, user_id)
);
CREATE INDEX permission_own_by_user ON permission_own (tenant, user_id, permission);

-- The roles, what each grants by itself, and which it inherits from.
CREATE TABLE permission_roles (
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    CONSTRAINT permission_roles_pkey PRIMARY KEY (tenant, role)
);

CREATE TABLE permission_role_grants (
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    permission TEXT NOT NULL,
    CONSTRAINT permission_role_grants_pkey PRIMARY KEY (tenant, role, permission)
);

CREATE TABLE permission_role_parents (
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    parent TEXT NOT NULL,
    CONSTRAINT permission_role_parents_pkey PRIMARY KEY (tenant, role, parent)
);
