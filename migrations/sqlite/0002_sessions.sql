-- Live sessions: which generation of the refresh token is current. Times and lists as in 0001.

CREATE TABLE sessions (
    id             TEXT PRIMARY KEY,  -- `sid` of its tokens
    user_id        TEXT NOT NULL,     -- whose; the user may be gone
    client_id      TEXT NOT NULL,     -- at which client; the client may be gone
    secret_hash    BLOB NOT NULL,     -- SHA-256 of the session secret, which only the refresh tokens hold
    era            INTEGER NOT NULL,  -- in another era than this the session is absent
    generation     INTEGER NOT NULL,  -- of the current refresh token
    refresh_key    INTEGER NOT NULL,  -- the key that tagged the current refresh token
    rotated        INTEGER NOT NULL,  -- when the current refresh token became so
    attempt_id     TEXT NOT NULL,     -- of the refresh that made it; may be empty
    scope          TEXT NOT NULL,     -- list: what was granted
    audience       TEXT NOT NULL,     -- list: what was granted
    created        INTEGER NOT NULL,  -- when the person proved who they are
    idle_expires   INTEGER NOT NULL,  -- when it ends unless it is refreshed; never after `expires`
    expires        INTEGER NOT NULL,  -- when it ends whatever happens
    epoch_global   INTEGER NOT NULL,  -- the epochs read with the credential
    epoch_user     INTEGER NOT NULL,
    epoch_client   INTEGER NOT NULL,
    fast_forwarded INTEGER NOT NULL,  -- 1: its last rotation made up for lost ones
    reused         INTEGER,           -- a tombstone: the generation that was presented twice; else NULL
    user_agent     TEXT NOT NULL,     -- for people to recognise their sessions by; may be empty
    ip_address     TEXT NOT NULL,     -- likewise
    device_name    TEXT NOT NULL      -- likewise
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_user ON sessions (user_id);

-- Expired rows are removed in the order of their expiry.
CREATE INDEX sessions_idle ON sessions (idle_expires);
