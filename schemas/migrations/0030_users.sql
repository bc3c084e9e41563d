-- The whole of a user: what it is, what is kept about it, and the roles it has. The columns are expanded in place;
-- the fold of users has a new version with them and makes the rows anew.
ALTER TABLE users ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE users ADD COLUMN deactivated_reason TEXT;
-- The address in the form in which addresses are compared.
ALTER TABLE users ADD COLUMN email_folded TEXT NOT NULL DEFAULT '';
-- JSON objects.
ALTER TABLE users ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE users ADD COLUMN preferences TEXT NOT NULL DEFAULT '{}';
CREATE INDEX users_by_status ON users (tenant, status, id);
CREATE INDEX users_by_email ON users (tenant, email_folded, id);

CREATE TABLE user_roles (
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    user_id TEXT NOT NULL,
    CONSTRAINT user_roles_pkey PRIMARY KEY (tenant, role, user_id)
);
CREATE INDEX user_roles_by_user ON user_roles (tenant, user_id, role);
