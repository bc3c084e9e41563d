-- Troubles are the platform's: they have no tenant.
GRANT SELECT ON projector_troubles TO tidings_query;
GRANT SELECT, INSERT, UPDATE, DELETE ON projector_troubles TO tidings_projector;
