-- What led to each change: the command's id, what it belongs to, what directly led to it, and its trace. The fold of
-- the audit trail has a new version with them and makes the rows anew.
ALTER TABLE audit ADD COLUMN command_id TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN correlation_id TEXT;
ALTER TABLE audit ADD COLUMN causation_id TEXT;
ALTER TABLE audit ADD COLUMN traceparent TEXT;
