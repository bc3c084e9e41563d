-- It says nothing of any tenant.
GRANT SELECT, INSERT, UPDATE, DELETE ON deliveries_forgotten TO tidings_projector;
