-- The archive is added to and read by whoever folds, and changed by nobody. Queries do not see it: it holds the records
-- of all tenants, and has no policy that could tell them apart. The fences say nothing of any tenant.
REVOKE ALL ON event_archive FROM tidings_query, tidings_projector;
GRANT SELECT, INSERT ON event_archive TO tidings_projector;
GRANT SELECT ON event_fences, event_log_origins TO tidings_query;
GRANT SELECT, INSERT, UPDATE, DELETE ON event_fences, event_log_origins TO tidings_projector;
