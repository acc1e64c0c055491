-- Another random number after each change of a client or a signing key: tells whether what was read of them still holds.
ALTER TABLE meta ADD COLUMN clients_and_keys INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER clients_inserted AFTER INSERT ON clients BEGIN UPDATE meta SET clients_and_keys = random(); END;
CREATE TRIGGER clients_updated AFTER UPDATE ON clients BEGIN UPDATE meta SET clients_and_keys = random(); END;
CREATE TRIGGER clients_deleted AFTER DELETE ON clients BEGIN UPDATE meta SET clients_and_keys = random(); END;
CREATE TRIGGER signing_keys_inserted AFTER INSERT ON signing_keys BEGIN UPDATE meta SET clients_and_keys = random(); END;
CREATE TRIGGER signing_keys_updated AFTER UPDATE ON signing_keys BEGIN UPDATE meta SET clients_and_keys = random(); END;
CREATE TRIGGER signing_keys_deleted AFTER DELETE ON signing_keys BEGIN UPDATE meta SET clients_and_keys = random(); END;
UPDATE meta SET clients_and_keys = random();
