-- Teams and invitations are their tenant's alone, as every tenant table is.
SELECT tidings_isolate(name) FROM unnest(ARRAY[
    'team_trees', 'teams', 'team_members', 'team_former_users', 'invitations'
]) AS name;
