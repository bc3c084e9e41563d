-- Time series are their tenant's alone, as every tenant table is.
SELECT tidings_isolate(name) FROM unnest(ARRAY[
    'series_events', 'series_deliveries', 'series_users', 'series_user_days'
]) AS name;
