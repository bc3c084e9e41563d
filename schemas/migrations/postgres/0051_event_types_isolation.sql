-- Tenant isolation of the event types.
SELECT tidings_isolate(name) FROM unnest(ARRAY['event_types', 'event_type_versions']) AS name;
