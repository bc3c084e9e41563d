#!/bin/sh
# Makes the roles of Tidings and gives each its rights on the database: run once, as superuser, on an empty one.
#
# tidings_owner      owns the schema and runs the migrations (`tidings migrate`), never serves a request
# tidings_projector  folds the log into the read models, and answers queries that span both
# tidings_query      reads the read models, one tenant per transaction
#
# A process that folds and answers logs in as tidings_projector and answers as tidings_query, which it may therefore
# become (SET ROLE); that role sees less, never more.
#
# Only the owner may change the schema, and neither of the other two escapes row-level security. Names and
# passwords come from the environment and never appear in a command line. Run again, it renews passwords and
# rights; the official image of PostgreSQL runs it when it makes its data folder.
set -eu

: "${POSTGRES_USER:?the superuser}" "${POSTGRES_DB:?the database}"
: "${TIDINGS_OWNER_PASSWORD:?}" "${TIDINGS_PROJECTOR_PASSWORD:?}" "${TIDINGS_QUERY_PASSWORD:?}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv owner_password TIDINGS_OWNER_PASSWORD
\getenv projector_password TIDINGS_PROJECTOR_PASSWORD
\getenv query_password TIDINGS_QUERY_PASSWORD

BEGIN;
-- Two databases of one server may be prepared at the same time, and roles belong to the server.
LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE;

SELECT format('CREATE ROLE %I', role)
FROM unnest(ARRAY['tidings_owner', 'tidings_projector', 'tidings_query']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec

ALTER ROLE tidings_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'owner_password';
ALTER ROLE tidings_projector LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'projector_password';
ALTER ROLE tidings_query LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'query_password';

GRANT tidings_query TO tidings_projector;

-- Nobody but these three may even connect.
ALTER DATABASE :"DBNAME" OWNER TO tidings_owner;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO tidings_projector, tidings_query;

ALTER SCHEMA public OWNER TO tidings_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO tidings_projector, tidings_query;

-- What the migrations will make is the owner's; these are the others' rights on it.
ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tidings_projector;
ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO tidings_projector;
ALTER DEFAULT PRIVILEGES FOR ROLE tidings_owner IN SCHEMA public
  GRANT SELECT ON TABLES TO tidings_query;
COMMIT;
SQL
