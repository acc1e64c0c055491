-- The names of the master keys that the replica holds; an empty list for a version that does not report them.
ALTER TABLE replicas ADD COLUMN master_keys TEXT NOT NULL DEFAULT '[]';
