-- The teams of each tenant, who belongs to them, and invitations. A tenant's teams are one aggregate, so its version
-- has a table of its own.
CREATE TABLE team_trees (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT team_trees_pkey PRIMARY KEY (tenant, id)
);

CREATE TABLE teams (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    -- None for a team that stands under no other.
    parent TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT teams_pkey PRIMARY KEY (tenant, id)
);
CREATE INDEX teams_by_parent ON teams (tenant, parent, id);

CREATE TABLE team_members (
    tenant TEXT NOT NULL,
    team TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- `lead` or `member`.
    role TEXT NOT NULL,
    -- When the user came to belong to this team, or to one that was merged into it.
    since BIGINT NOT NULL,
    CONSTRAINT team_members_pkey PRIMARY KEY (tenant, team, user_id)
);
CREATE INDEX team_members_by_user ON team_members (tenant, user_id);

-- Users that are no more: they are in no list of members, in whatever order the log tells of the two.
CREATE TABLE team_former_users (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    CONSTRAINT team_former_users_pkey PRIMARY KEY (tenant, user_id)
);

CREATE TABLE invitations (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    email TEXT NOT NULL,
    name TEXT,
    -- A JSON array of role ids.
    roles TEXT NOT NULL,
    -- What the log says: `pending`, `accepted`, `revoked` or `expired`. What is pending expires by the clock too.
    status TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- How often it was sent.
    sent BIGINT NOT NULL,
    -- The user it made.
    user_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT invitations_pkey PRIMARY KEY (tenant, id)
);
CREATE INDEX invitations_by_status ON invitations (tenant, status, id);
