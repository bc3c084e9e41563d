-- Replays are the platform's: they have no tenant.
GRANT SELECT ON rebuilds TO tidings_query;
GRANT SELECT, INSERT, UPDATE, DELETE ON rebuilds TO tidings_projector;
