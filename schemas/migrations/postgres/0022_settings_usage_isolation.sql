-- A tenant's settings and usage are seen by that tenant only.
SELECT tidings_isolate(name) FROM unnest(ARRAY['settings_versions', 'usage']) AS name;
