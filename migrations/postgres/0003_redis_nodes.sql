CREATE TABLE redis_nodes (
  configured text PRIMARY KEY,
  nodes text[] NOT NULL,
  seen bigint NOT NULL
);
COMMENT ON TABLE redis_nodes IS 'Sentinels and cluster nodes that replicas found: a replica that starts asks them besides the configured ones';
COMMENT ON COLUMN redis_nodes.configured IS 'The nodes of storage.redis_url that led to them, without user and password';
COMMENT ON COLUMN redis_nodes.nodes IS 'Host and port of each, at most 32';
COMMENT ON COLUMN redis_nodes.seen IS 'When a replica last confirmed them, Unix milliseconds; a row is forgotten after 30 days';
