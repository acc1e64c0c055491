ALTER TABLE meta ADD COLUMN clients_and_keys bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN meta.clients_and_keys IS
    'Another random number after each change of a client or a signing key: tells whether what a replica has read of them still holds';

-- A trigger, because replicas of an earlier version and people change these tables as well.
CREATE FUNCTION countersign_clients_and_keys() RETURNS trigger
    LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE meta SET clients_and_keys = hashtextextended(gen_random_uuid()::text, 0);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION countersign_clients_and_keys IS 'Notes a change of a client or a signing key';
CREATE TRIGGER clients_and_keys AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON clients
    FOR EACH STATEMENT EXECUTE FUNCTION countersign_clients_and_keys();
CREATE TRIGGER clients_and_keys AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION countersign_clients_and_keys();
UPDATE meta SET clients_and_keys = hashtextextended(gen_random_uuid()::text, 0);
