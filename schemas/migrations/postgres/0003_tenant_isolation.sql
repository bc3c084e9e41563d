-- Tenant isolation by PostgreSQL itself: whatever a query forgets, `tidings_query` sees only the rows of the tenant
-- named in `tidings.tenant` for the transaction, and none where it is not set. FORCE, since a table's owner would
-- otherwise see past its policies. A migration that makes a tenant table calls this function for it.
CREATE FUNCTION tidings_isolate(table_name TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    EXECUTE format(
        'CREATE POLICY %I ON %I FOR SELECT TO tidings_query USING (tenant = current_setting(''tidings.tenant'', true))',
        table_name || '_of_tenant', table_name
    );
    EXECUTE format(
        'CREATE POLICY %I ON %I TO tidings_projector USING (true) WITH CHECK (true)',
        table_name || '_of_projector', table_name
    );
    EXECUTE format('GRANT SELECT ON %I TO tidings_query', table_name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO tidings_projector', table_name);
END;
$$;

SELECT tidings_isolate(name) FROM unnest(ARRAY[
    'tenants', 'users', 'endpoints', 'audit', 'messages', 'deliveries', 'attempts', 'delivery_counts',
    'stats_totals', 'stats_event_types', 'stats_minutes', 'parked'
]) AS name;

GRANT USAGE ON SCHEMA public TO tidings_projector, tidings_query;
GRANT SELECT ON checkpoints, _sqlx_migrations TO tidings_query;
GRANT SELECT, INSERT, UPDATE, DELETE ON checkpoints TO tidings_projector;
GRANT SELECT ON _sqlx_migrations TO tidings_projector;
