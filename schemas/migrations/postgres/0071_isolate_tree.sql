-- A tenant's tree is seen by that tenant only.
SELECT tidings_isolate(name) FROM unnest(ARRAY['trees', 'tree_leaves', 'tree_nodes']) AS name;
