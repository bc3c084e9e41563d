-- The Merkle tree over each tenant's records in a log: what checkpoints are signed over and proofs made of.
CREATE TABLE trees (
    tenant TEXT NOT NULL,
    shard BIGINT NOT NULL,
    size BIGINT NOT NULL,
    -- The sequence of the last leaf.
    last BIGINT NOT NULL,
    -- The complete subtrees' hashes, the largest first: from them the tree grows.
    frontier BYTEA NOT NULL,
    CONSTRAINT trees_pkey PRIMARY KEY (tenant, shard)
);

-- A leaf per record. By their sequences: the records around one are then its neighbours in the tree.
CREATE TABLE tree_leaves (
    tenant TEXT NOT NULL,
    shard BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    leaf BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT tree_leaves_pkey PRIMARY KEY (tenant, shard, sequence)
);

-- The complete subtrees at every fourth level.
CREATE TABLE tree_nodes (
    tenant TEXT NOT NULL,
    shard BIGINT NOT NULL,
    level BIGINT NOT NULL,
    number BIGINT NOT NULL,
    -- The sequence of its last leaf.
    last BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT tree_nodes_pkey PRIMARY KEY (tenant, shard, level, number)
);
