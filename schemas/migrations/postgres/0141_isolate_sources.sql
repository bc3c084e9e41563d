-- Tenant isolation of the sources.
SELECT tidings_isolate('sources');
