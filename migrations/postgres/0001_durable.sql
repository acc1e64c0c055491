-- Facts that outlive everything: people, clients, keys, revocations, the audit trail.
-- Every time is in Unix milliseconds: what is compared with a token's is kept in a token's terms.

CREATE FUNCTION countersign_ms(moment timestamptz) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM moment) * 1000)::bigint;
COMMENT ON FUNCTION countersign_ms IS 'A moment in Unix milliseconds, rounded down';

CREATE TABLE meta (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch        bigint NOT NULL DEFAULT 0,
    era          bigint NOT NULL DEFAULT 1,
    session_life bigint NOT NULL DEFAULT 86400000
);
INSERT INTO meta DEFAULT VALUES;
COMMENT ON TABLE meta IS 'What there is one of in a deployment';
COMMENT ON COLUMN meta.one IS 'There is one row';
COMMENT ON COLUMN meta.epoch IS 'The global epoch, raised by a revocation of everything';
COMMENT ON COLUMN meta.era IS 'Of the store of sessions; records of another era are absent';
COMMENT ON COLUMN meta.session_life IS
    'The longest life of a session or token ever in force, in milliseconds; starts at 24 h, the ceiling of access tokens';

CREATE TABLE counters (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);
COMMENT ON TABLE counters IS 'How far the counters in the store of sessions were: tells when one came back from a backup';
COMMENT ON COLUMN counters.name IS 'A master of the store of sessions';
COMMENT ON COLUMN counters.value IS 'How far its counter was when last seen; only grows';

CREATE TABLE users (
    id               uuid PRIMARY KEY,
    username         text COLLATE "C" NOT NULL CONSTRAINT users_username UNIQUE,
    email            text COLLATE "C" NOT NULL,
    display_name     text NOT NULL,
    roles            text[] NOT NULL,
    attributes       json NOT NULL,
    password_hash    text NOT NULL,
    disabled         boolean NOT NULL,
    epoch            bigint NOT NULL,
    created          bigint NOT NULL,
    updated          bigint NOT NULL,
    password_changed bigint NOT NULL,
    last_login       bigint,
    reset_hash       bytea UNIQUE,
    reset_expires    bigint
);
CREATE INDEX users_email ON users (lower(email));
COMMENT ON TABLE users IS 'People';
COMMENT ON COLUMN users.id IS 'The subject (sub) of their tokens, a UUIDv7';
COMMENT ON COLUMN users.username IS 'In the form of RFC 8265 UsernameCaseMapped';
COMMENT ON COLUMN users.email IS 'Empty if unknown';
COMMENT ON COLUMN users.display_name IS 'Empty if unknown';
COMMENT ON COLUMN users.roles IS 'Sorted';
COMMENT ON COLUMN users.attributes IS 'What tokens carry under ext; json, not jsonb: it is kept as it was given';
COMMENT ON COLUMN users.password_hash IS 'PHC string; empty if no password is set';
COMMENT ON COLUMN users.disabled IS 'May neither log in nor refresh';
COMMENT ON COLUMN users.epoch IS 'Raised by every revocation of all of theirs';
COMMENT ON COLUMN users.created IS 'When the row was made';
COMMENT ON COLUMN users.updated IS 'When it was last changed: the optimistic lock of an update';
COMMENT ON COLUMN users.password_changed IS 'When the password was last set';
COMMENT ON COLUMN users.last_login IS 'When they last logged in with a password';
COMMENT ON COLUMN users.reset_hash IS 'SHA-256 of the outstanding one-time token for a password reset';
COMMENT ON COLUMN users.reset_expires IS 'Until when that token is good';

CREATE TABLE clients (
    id                    text COLLATE "C" PRIMARY KEY,
    display_name          text NOT NULL,
    grants                text[] NOT NULL,
    audiences             text[] NOT NULL,
    scopes                text[] NOT NULL,
    access_token_ttl      bigint,
    refresh_idle_ttl      bigint,
    session_ttl           bigint,
    refresh_grace         bigint,
    reuse_policy          text CHECK (reuse_policy IN ('strict', 'tolerant')),
    max_sessions_per_user bigint NOT NULL,
    disabled              boolean NOT NULL,
    epoch                 bigint NOT NULL,
    created               bigint NOT NULL,
    updated               bigint NOT NULL
);
COMMENT ON TABLE clients IS 'Applications that ask for tokens';
COMMENT ON COLUMN clients.id IS 'Chosen by its creator: 3-64 of a-z 0-9 . _ -';
COMMENT ON COLUMN clients.display_name IS 'For people';
COMMENT ON COLUMN clients.grants IS 'Of password, client_secret, exchange';
COMMENT ON COLUMN clients.audiences IS 'Whom its tokens may be for; * is anyone';
COMMENT ON COLUMN clients.scopes IS 'What its tokens may carry; * is all but countersign:*';
COMMENT ON COLUMN clients.access_token_ttl IS 'Milliseconds; as for the other lives, NULL means the configuration''s';
COMMENT ON COLUMN clients.refresh_idle_ttl IS 'Milliseconds that a session may go without a refresh';
COMMENT ON COLUMN clients.session_ttl IS 'Milliseconds that a session may last at all';
COMMENT ON COLUMN clients.refresh_grace IS 'Milliseconds in which the previous refresh token may come again';
COMMENT ON COLUMN clients.reuse_policy IS 'strict or tolerant; NULL means the configuration''s';
COMMENT ON COLUMN clients.max_sessions_per_user IS '0 means the configuration''s';
COMMENT ON COLUMN clients.disabled IS 'Gets no tokens';
COMMENT ON COLUMN clients.epoch IS 'Raised by every revocation of everything at the client';
COMMENT ON COLUMN clients.created IS 'When the row was made';
COMMENT ON COLUMN clients.updated IS 'When it was last changed: the optimistic lock of an update';

CREATE TABLE client_secrets (
    client_id text COLLATE "C" NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    hash      bytea NOT NULL,
    expires   bigint,
    PRIMARY KEY (client_id, hash)
);
COMMENT ON TABLE client_secrets IS 'What clients prove themselves with';
COMMENT ON COLUMN client_secrets.client_id IS 'Whose';
COMMENT ON COLUMN client_secrets.hash IS 'SHA-256 of the secret, which is itself 256 random bits';
COMMENT ON COLUMN client_secrets.expires IS 'Until when it is good while a newer one overlaps; NULL for the newest';

CREATE TABLE signing_keys (
    id         text COLLATE "C" PRIMARY KEY,
    algorithm  text NOT NULL,
    public_jwk text NOT NULL,
    sealed     bytea NOT NULL,
    state      text NOT NULL CHECK (state IN ('pending', 'active', 'retired', 'revoked')),
    created    bigint NOT NULL,
    activated  bigint,
    retired    bigint,
    revoked    bigint
);
CREATE UNIQUE INDEX signing_keys_active ON signing_keys (state) WHERE state = 'active';
COMMENT ON TABLE signing_keys IS 'Keys that sign access tokens';
COMMENT ON COLUMN signing_keys.id IS 'The RFC 7638 thumbprint: kid';
COMMENT ON COLUMN signing_keys.algorithm IS 'EdDSA, ES256 or RS256';
COMMENT ON COLUMN signing_keys.public_jwk IS 'The public half, as JSON';
COMMENT ON COLUMN signing_keys.sealed IS 'The private half, sealed under a master key';
COMMENT ON COLUMN signing_keys.state IS 'Where it is in its life; at most one is active';
COMMENT ON COLUMN signing_keys.created IS 'When it was made, which is when it was published';
COMMENT ON COLUMN signing_keys.activated IS 'When it began to sign';
COMMENT ON COLUMN signing_keys.retired IS 'When it ceased to sign';
COMMENT ON COLUMN signing_keys.revoked IS 'When everything that it signed was revoked';

CREATE TABLE secrets (
    purpose text NOT NULL,
    id      bigint NOT NULL,
    sealed  bytea NOT NULL,
    created bigint NOT NULL,
    PRIMARY KEY (purpose, id)
);
COMMENT ON TABLE secrets IS 'Symmetric secrets; the largest id of a purpose is in use';
COMMENT ON COLUMN secrets.purpose IS 'refresh (tags refresh tokens) or pepper (of passwords)';
COMMENT ON COLUMN secrets.id IS 'Named by the tokens or hashes that use it';
COMMENT ON COLUMN secrets.sealed IS 'The secret, sealed under a master key';
COMMENT ON COLUMN secrets.created IS 'When it was made';

CREATE TABLE master_keys (
    name   text PRIMARY KEY,
    sealed bytea NOT NULL
);
COMMENT ON TABLE master_keys IS 'Check values of the master keys: tell a wrong one before anything is written';
COMMENT ON COLUMN master_keys.name IS 'Names a master key without telling anything of it';
COMMENT ON COLUMN master_keys.sealed IS 'A known text sealed under it';

CREATE TABLE replicas (
    id     uuid PRIMARY KEY,
    seen   bigint NOT NULL,
    loaded text[] NOT NULL
);
COMMENT ON TABLE replicas IS 'Running processes: a key signs once all that live have loaded it';
COMMENT ON COLUMN replicas.id IS 'One running process';
COMMENT ON COLUMN replicas.seen IS 'Its last heartbeat';
COMMENT ON COLUMN replicas.loaded IS 'The signing keys that it has loaded';

CREATE TABLE revocations (
    seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    level   text NOT NULL CHECK (level IN ('token', 'session', 'user', 'client', 'key', 'global')),
    id      text COLLATE "C" NOT NULL,
    keep    uuid,
    epoch   bigint NOT NULL,
    expires bigint NOT NULL,
    revoked bigint NOT NULL,
    txid    xid8 NOT NULL DEFAULT pg_current_xact_id()
);
-- A token, session or key is revoked once.
CREATE UNIQUE INDEX revocations_once ON revocations (level, id) WHERE epoch = 0;
-- Is there one with a larger epoch?
CREATE INDEX revocations_epoch ON revocations (level, id, epoch) WHERE epoch > 0;
-- The feed: what have transactions written that were not over when it last looked?
CREATE INDEX revocations_txid ON revocations (txid);
-- The load of what could concern an unexpired access token.
CREATE INDEX revocations_revoked ON revocations (revoked);
-- Clean-up in small batches.
CREATE INDEX revocations_expires ON revocations (expires);
COMMENT ON TABLE revocations IS 'One row a revocation, inserted and never changed';
COMMENT ON COLUMN revocations.seq IS 'Names the row; says nothing of the order of commits';
COMMENT ON COLUMN revocations.level IS 'How far it reaches';
COMMENT ON COLUMN revocations.id IS 'Of that token, session, user, client or key; empty for global';
COMMENT ON COLUMN revocations.keep IS 'Level user: the session that lives on';
COMMENT ON COLUMN revocations.epoch IS
    'Levels user, client, global: what carries a smaller one is dead; 0 at the others';
COMMENT ON COLUMN revocations.expires IS 'When nothing that it concerns can be alive any more';
COMMENT ON COLUMN revocations.revoked IS 'When it was recorded';
COMMENT ON COLUMN revocations.txid IS 'The transaction that wrote it: found again however late that one commits';

CREATE TABLE audit_events (
    id         uuid PRIMARY KEY,
    time       bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    actor      text NOT NULL,
    ip_address text NOT NULL,
    request_id text NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    client_id  text NOT NULL,
    session_id uuid,
    outcome    text NOT NULL,
    details    json NOT NULL
);
CREATE INDEX audit_events_subject ON audit_events (subject, id);
CREATE INDEX audit_events_kind ON audit_events (kind, id);
CREATE INDEX audit_events_time ON audit_events (time);
COMMENT ON TABLE audit_events IS 'The audit trail; rows are written in the transaction of what they tell of';
COMMENT ON COLUMN audit_events.id IS 'A UUIDv7 of its time, so that the ids are in the order of time';
COMMENT ON COLUMN audit_events.time IS 'When';
COMMENT ON COLUMN audit_events.kind IS 'What: object, dot, verb';
COMMENT ON COLUMN audit_events.actor IS 'Who: a user''s or client''s id, cli, system, or empty';
COMMENT ON COLUMN audit_events.ip_address IS 'From where';
COMMENT ON COLUMN audit_events.request_id IS 'To find the request in the logs';
COMMENT ON COLUMN audit_events.subject IS 'On whom: a user''s, client''s or key''s id';
COMMENT ON COLUMN audit_events.client_id IS 'At which client; may be empty';
COMMENT ON COLUMN audit_events.session_id IS 'In which session';
COMMENT ON COLUMN audit_events.outcome IS 'success or denied';
COMMENT ON COLUMN audit_events.details IS 'What else is known';
