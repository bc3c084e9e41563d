-- Permissions are their tenant's alone, as every tenant table is.
SELECT tidings_isolate(name) FROM unnest(ARRAY[
    'permission_users', 'permission_user_roles', 'permission_own',
    'permission_roles', 'permission_role_grants', 'permission_role_parents'
]) AS name;
