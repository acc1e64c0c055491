ALTER TABLE redis_nodes ADD COLUMN ids text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN redis_nodes.ids IS 'Ids of the nodes of this deployment: a node that names none of them belongs to another one. Empty in rows of a version that does not store them';
