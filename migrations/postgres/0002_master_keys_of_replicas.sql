ALTER TABLE replicas ADD COLUMN master_keys text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN replicas.master_keys IS 'The names of the master keys that it holds; empty for a version that does not report them';
