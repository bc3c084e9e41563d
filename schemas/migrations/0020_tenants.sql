-- Tenants have a standing and quotas. The read model is folded anew, since its version grows with this.
ALTER TABLE tenants ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
-- Why it was suspended or terminated, while it is.
ALTER TABLE tenants ADD COLUMN reason TEXT;
-- JSON: an object with the quotas that are set.
ALTER TABLE tenants ADD COLUMN quotas TEXT NOT NULL DEFAULT '{}';
