-- What a tenant keeps, and what was removed of it, is seen by that tenant only.
SELECT tidings_isolate(name) FROM unnest(ARRAY['audit_retention', 'audit_removed']) AS name;
