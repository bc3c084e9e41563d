-- Tenant isolation of the tables of roles, as of all others.
SELECT tidings_isolate(name) FROM unnest(ARRAY['user_roles', 'role_graphs', 'roles']) AS name;
