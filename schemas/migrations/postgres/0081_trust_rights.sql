-- The archive is added to and read by whoever folds, and changed by nobody. Queries do not see it: it holds the records
-- of all tenants, and has no policy that could tell them apart. The fences say nothing of any tenant.
REVOKE ALL ON event_archive FROM tidings_query, tidings_projector;
GRANT SELECT, INSERT ON event_archive TO tidings_projector;
GRANT SELECT ON event_fences, event_log_origins TO tidings_query;
GRANT SELECT, INSERT, UPDATE, DELETE ON event_fences, event_log_origins TO tidings_projector;

-- Nor is it emptied by the function that empties read models.
CREATE FUNCTION tidings_archive_stays() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the archive of the log is never changed' USING ERRCODE = '42501';
END;
$$;
CREATE TRIGGER event_archive_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON event_archive
    FOR EACH STATEMENT EXECUTE FUNCTION tidings_archive_stays();
