-- Facts that outlive everything: people, clients, keys, revocations, the audit trail.
-- Every time is in Unix milliseconds. Ids are lower-case hyphenated UUIDs unless a column says otherwise.
-- Lists and objects are JSON.

CREATE TABLE meta (
    one          INTEGER PRIMARY KEY CHECK (one = 1),  -- there is one row
    instance     TEXT NOT NULL,     -- names this database: a cursor of another one is void
    clock        INTEGER NOT NULL,  -- the newest row's time: no later row is given an earlier one
    epoch        INTEGER NOT NULL,  -- the global epoch, raised by a revocation of everything
    era          INTEGER NOT NULL,  -- of the store of sessions; records of another era are absent
    session_life INTEGER NOT NULL   -- the longest life of a session or token ever in force, in milliseconds
) STRICT;

-- The life starts at 24 h, the ceiling of every access token.
INSERT INTO meta VALUES (1, lower(hex(randomblob(16))), 0, 0, 1, 86400000);

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,  -- a master of the store of sessions
    value INTEGER NOT NULL   -- how far its counter was when last seen; only grows
) STRICT;

CREATE TABLE users (
    id               TEXT PRIMARY KEY,         -- `sub` of their tokens
    username         TEXT NOT NULL UNIQUE,     -- in the form of RFC 8265 UsernameCaseMapped
    email            TEXT NOT NULL,            -- empty if unknown
    display_name     TEXT NOT NULL,            -- empty if unknown
    roles            TEXT NOT NULL,            -- list of names, sorted
    attributes       TEXT NOT NULL,            -- object: what tokens carry under `ext`
    password_hash    TEXT NOT NULL,            -- PHC string; empty if no password is set
    disabled         INTEGER NOT NULL,         -- 1: may neither log in nor refresh
    epoch            INTEGER NOT NULL,         -- raised by every revocation of all of theirs
    created          INTEGER NOT NULL,         -- when the row was made
    updated          INTEGER NOT NULL,         -- when it was last changed: the optimistic lock of an update
    password_changed INTEGER NOT NULL,         -- when the password was last set
    last_login       INTEGER,                  -- when they last logged in with a password
    reset_hash       BLOB UNIQUE,              -- SHA-256 of the outstanding one-time token for a password reset
    reset_expires    INTEGER                   -- until when that token is good
) STRICT;

-- Listings search by the start of the e-mail address, in lower case.
CREATE INDEX users_email ON users (lower(email));

CREATE TABLE clients (
    id                    TEXT PRIMARY KEY,  -- chosen by its creator: 3-64 of a-z 0-9 . _ -
    display_name          TEXT NOT NULL,     -- for people
    grants                TEXT NOT NULL,     -- list of password, client_secret, exchange
    audiences             TEXT NOT NULL,     -- list: whom its tokens may be for; * is anyone
    scopes                TEXT NOT NULL,     -- list: what its tokens may carry; * is all but countersign:*
    access_token_ttl      INTEGER,           -- milliseconds; as the other lives, NULL means the configuration's
    refresh_idle_ttl      INTEGER,           -- milliseconds that a session may go without a refresh
    session_ttl           INTEGER,           -- milliseconds that a session may last at all
    refresh_grace         INTEGER,           -- milliseconds in which the previous refresh token may come again
    reuse_policy          TEXT,              -- strict or tolerant; NULL means the configuration's
    max_sessions_per_user INTEGER NOT NULL,  -- 0 means the configuration's
    disabled              INTEGER NOT NULL,  -- 1: gets no tokens
    epoch                 INTEGER NOT NULL,  -- raised by every revocation of everything at the client
    created               INTEGER NOT NULL,  -- when the row was made
    updated               INTEGER NOT NULL   -- when it was last changed: the optimistic lock of an update
) STRICT;

CREATE TABLE client_secrets (
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,  -- whose
    hash      BLOB NOT NULL,  -- SHA-256 of the secret, which is itself 256 random bits
    expires   INTEGER,        -- until when it is good while a newer one overlaps; NULL for the newest
    PRIMARY KEY (client_id, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
    id         TEXT PRIMARY KEY,  -- the RFC 7638 thumbprint: `kid`
    algorithm  TEXT NOT NULL,     -- EdDSA, ES256 or RS256
    public_jwk TEXT NOT NULL,     -- the public half, as JSON
    sealed     BLOB NOT NULL,     -- the private half, sealed under a master key
    state      TEXT NOT NULL CHECK (state IN ('pending', 'active', 'retired', 'revoked')),  -- where it is in its life
    created    INTEGER NOT NULL,  -- when it was made, which is when it was published
    activated  INTEGER,           -- when it began to sign
    retired    INTEGER,           -- when it ceased to sign
    revoked    INTEGER            -- when everything that it signed was revoked
) STRICT;

CREATE UNIQUE INDEX signing_keys_active ON signing_keys (state) WHERE state = 'active';

CREATE TABLE secrets (
    purpose TEXT NOT NULL,     -- refresh (tags refresh tokens) or pepper (of passwords)
    id      INTEGER NOT NULL,  -- named by the tokens or hashes that use it; the largest is in use
    sealed  BLOB NOT NULL,     -- the secret, sealed under a master key
    created INTEGER NOT NULL,  -- when it was made
    PRIMARY KEY (purpose, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE master_keys (
    name   TEXT PRIMARY KEY,  -- names a master key without telling anything of it
    sealed BLOB NOT NULL      -- a known text sealed under it: its check value
) STRICT;

CREATE TABLE replicas (
    id     TEXT PRIMARY KEY,   -- one running process
    seen   INTEGER NOT NULL,   -- its last heartbeat
    loaded TEXT NOT NULL       -- list of the signing keys that it has loaded
) STRICT;

-- One row a revocation, inserted and never changed. An id is never used twice, so `seq > last` misses none.
CREATE TABLE revocations (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of commits: there is one writer
    level   TEXT NOT NULL CHECK (level IN ('token', 'session', 'user', 'client', 'key', 'global')),  -- how far it reaches
    id      TEXT NOT NULL,     -- of that token, session, user, client or key; empty for global
    keep    TEXT,              -- level user: the session that lives on
    epoch   INTEGER NOT NULL,  -- levels user, client, global: what carries a smaller one is dead; 0 at the others
    expires INTEGER NOT NULL,  -- when nothing that it concerns can be alive any more
    revoked INTEGER NOT NULL   -- when it was recorded
) STRICT;

-- A token, session or key is revoked once.
CREATE UNIQUE INDEX revocations_once ON revocations (level, id) WHERE epoch = 0;
-- Is there one with a larger epoch?
CREATE INDEX revocations_epoch ON revocations (level, id, epoch) WHERE epoch > 0;
-- Clean-up in small batches.
CREATE INDEX revocations_expires ON revocations (expires);
-- The load of what could concern an unexpired access token.
CREATE INDEX revocations_revoked ON revocations (revoked);

CREATE TABLE audit_events (
    id         TEXT PRIMARY KEY,  -- UUIDv7: sorted by time
    time       INTEGER NOT NULL,  -- when
    kind       TEXT NOT NULL,     -- what: object, dot, verb
    actor      TEXT NOT NULL,     -- who: a user's or client's id, cli, system, or empty
    ip_address TEXT NOT NULL,     -- from where
    request_id TEXT NOT NULL,     -- to find the request in the logs
    subject    TEXT NOT NULL,     -- on whom: a user's, client's or key's id
    client_id  TEXT NOT NULL,     -- at which client; may be empty
    session_id TEXT,              -- in which session
    outcome    TEXT NOT NULL,     -- success or denied
    details    TEXT NOT NULL      -- object: what else is known
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_events_subject ON audit_events (subject, id);
CREATE INDEX audit_events_kind ON audit_events (kind, id);
CREATE INDEX audit_events_time ON audit_events (time);
