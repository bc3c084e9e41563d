-- The audit trail tells outcomes, is listed in the order of time, and is kept for as long as its tenant says. Each
-- search that names an actor, an action or a resource reads its own index from the newest entry on; a time window is a
-- range of any of them. The fold has a new version with this and makes the rows anew.
ALTER TABLE audit ADD COLUMN outcome TEXT NOT NULL DEFAULT 'success';

DROP INDEX audit_by_actor;
DROP INDEX audit_by_action;
DROP INDEX audit_by_resource;
CREATE INDEX audit_by_time ON audit (tenant, at, shard, sequence, version);
CREATE INDEX audit_by_actor ON audit (tenant, actor, at, shard, sequence, version);
CREATE INDEX audit_by_action ON audit (tenant, action, at, shard, sequence, version);
CREATE INDEX audit_by_resource ON audit (tenant, resource_id, at, shard, sequence, version);

-- For how long each tenant keeps its trail; a tenant that never said is not here.
CREATE TABLE audit_retention (
    tenant TEXT NOT NULL,
    -- None: for ever.
    days BIGINT,
    -- Why nothing may be removed, while there is a legal hold.
    hold TEXT,
    CONSTRAINT audit_retention_pkey PRIMARY KEY (tenant)
);

-- What was removed from a generation of the trail: everything decided before. It is no fold of the log, for it depends
-- on the clock; comparisons with a fold pass these entries over.
CREATE TABLE audit_removed (
    tenant TEXT NOT NULL,
    generation BIGINT NOT NULL,
    -- Milliseconds since 1970.
    before BIGINT NOT NULL,
    CONSTRAINT audit_removed_pkey PRIMARY KEY (tenant, generation)
);
