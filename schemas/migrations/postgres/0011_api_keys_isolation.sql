-- The keys of a tenant are seen by that tenant only.
SELECT tidings_isolate('api_keys');
