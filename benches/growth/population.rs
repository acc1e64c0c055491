//! The users, sessions, revocations and clients: how they are made, and the tokens of the users.

use std::collections::HashSet;

use countersign::clock::{Clock as _, SystemClock, UnixMillis};
use countersign::keys::refresh::RefreshKey;
use countersign::keys::seal::{MasterKeyring, SealedItem};
use countersign::model::{ClientId, Epochs, SessionId, UserId};
use countersign::secret::{SecretBytes, SecretText, SystemEntropy, random, sha256};
use countersign::store::keys::SecretPurpose;
use countersign::token::refresh_token::RefreshToken;
use uuid::Uuid;

use crate::support::serve::MASTER_KEY;
use crate::support::{Database, Redis};

/// The number of clients. The sessions belong to them in turn.
pub const CLIENTS: u32 = 10_000;

const DAY: i64 = 86_400_000;
/// The time between the creation of two users, and of their sessions, in milliseconds: ten million fit into a day.
const STEP: i64 = 8;
/// The life of a session, as configured by default.
const SESSION_LIFE: i64 = 30 * DAY;
/// The session secret of every loaded session; the store keeps its hash.
const SECRET: [u8; 32] = [7; 32];
/// How many sessions one script makes.
const SESSIONS_AT_ONCE: u16 = 20_000;

/// What a user is for. A session can be revoked or refreshed once only, so each operation has users of its own.
#[derive(Clone, Copy)]
pub enum Purpose {
    Use,
    LogIn,
    RevokeSession,
    RevokeUser,
}

pub struct Population {
    pub size: u32,
    /// When the first user was made.
    users_since: i64,
    /// When the first session began.
    sessions_since: i64,
    refresh_key: (u32, RefreshKey),
    taken: HashSet<u32>,
}

impl Population {
    /// No users yet. Opens the refresh key of this deployment, so that it can make refresh tokens.
    pub async fn none(database: &Database) -> Self {
        let sealed = "SELECT id, encode(sealed, 'hex') FROM secrets WHERE purpose = 'refresh' ORDER BY id DESC LIMIT 1";
        let row = &database.rows(sealed).await[0];
        let key_id: u32 = row[0].as_ref().unwrap().parse().unwrap();
        let sealed = from_hex(row[1].as_ref().unwrap());
        let master = MasterKeyring::parse(&SecretText::new(MASTER_KEY)).unwrap();
        let plain = master.unseal(SealedItem::Secret(SecretPurpose::Refresh, key_id), &sealed);
        let secret = SecretBytes::new(plain.unwrap().as_slice().try_into().unwrap());
        let now = SystemClock::new().now().0;
        Self {
            size: 0,
            users_since: now - 300 * DAY,
            sessions_since: now - DAY,
            refresh_key: (key_id, RefreshKey::new(&secret)),
            taken: HashSet::new(),
        }
    }

    pub fn user(&self, n: u32) -> UserId {
        UserId(id(self.users_since, 0x8000, n))
    }

    pub fn session(&self, n: u32) -> SessionId {
        SessionId(id(self.sessions_since, 0x8001, n))
    }

    /// The name of a user. The names are not in the order of the ids, as if people had chosen them.
    pub fn name(n: u32) -> String {
        format!("u{:08x}", n.wrapping_mul(SCRAMBLE))
    }

    pub fn client(n: u32) -> ClientId {
        ClientId::parse(&format!("client-{:05}", n % CLIENTS), "client_id").unwrap()
    }

    /// The refresh token of the session of a user, which has not been refreshed.
    pub fn refresh_token(&self, n: u32) -> String {
        let token = RefreshToken {
            user: self.user(n),
            session: self.session(n),
            generation: 0,
            epochs: Epochs::default(),
            expires: UnixMillis(self.sessions_since + STEP * i64::from(n) + SESSION_LIFE),
            client: Self::client(n),
            secret: SecretBytes::new(SECRET),
        };
        let (key_id, key) = &self.refresh_key;
        token.encode(*key_id, key).expose().to_owned()
    }

    /// A random user for this purpose, again and again.
    pub fn any(&self, purpose: Purpose) -> u32 {
        let random = u32::from_be_bytes(random(&SystemEntropy));
        (random % (self.size / 4)) * 4 + purpose as u32
    }

    /// A random user for this purpose who was not taken before; none if most were taken.
    pub fn take(&mut self, purpose: Purpose) -> Option<u32> {
        for _ in 0..64 {
            let n = self.any(purpose);
            if self.taken.insert(n) {
                return Some(n);
            }
        }
        None
    }

    /// Adds users with a session and the audit event of its login, up to this number.
    pub async fn grow(&mut self, size: u32, database: &Database, redis: &Redis) {
        let (from, to) = (self.size, size);
        let sessions = self.load_sessions(redis.url(), from, to, era(database).await);
        // The templates are a user and the event of a login that the service made.
        let users = format!(
            "INSERT INTO users (id, username, email, display_name, roles, attributes, password_hash, disabled, epoch, created,
                                updated, password_changed, last_login)
             SELECT {user}, {name}, {name} || '@example.org', t.display_name, t.roles, t.attributes, t.password_hash, false, 0,
                    {created}, {created}, {created}, {login}
             FROM generate_series({from}::bigint, {to} - 1) AS n, (SELECT * FROM users WHERE username = 'ada') AS t",
            user = sql_id(self.users_since, "8000"),
            name = SQL_NAME,
            created = sql_time(self.users_since),
            login = sql_time(self.sessions_since),
        );
        let events = format!(
            "INSERT INTO audit_events
             SELECT {event}, {login}, t.kind, {user}::text, t.ip_address, md5(n::text)::uuid::text, {user}::text,
                    {SQL_CLIENT}, {session}, t.outcome, t.details
             FROM generate_series({from}::bigint, {to} - 1) AS n,
                  (SELECT * FROM audit_events WHERE session_id IS NOT NULL ORDER BY id LIMIT 1) AS t",
            event = sql_id(self.sessions_since, "8002"),
            user = sql_id(self.users_since, "8000"),
            session = sql_id(self.sessions_since, "8001"),
            login = sql_time(self.sessions_since),
        );
        let sessions = tokio::task::spawn_blocking(sessions);
        tokio::join!(database.execute(&users), database.execute(&events));
        sessions.await.unwrap();
        self.size = size;
        for table in ["users", "audit_events", "revocations", "clients"] {
            database.execute(&format!("VACUUM (ANALYZE) {table}")).await;
        }
        database.execute("CHECKPOINT").await;
    }

    /// Makes the records of the sessions with the part of the scripts of the service that packs them.
    fn load_sessions(&self, redis: String, from: u32, to: u32, era: i64) -> impl FnOnce() + Send + use<> {
        const LOAD: &str = r"
local first, last, users_since, sessions_since, step, life, idle, era, refresh_key, secret_hash, clients = unpack(ARGV)
first, last, users_since, sessions_since = tonumber(first), tonumber(last), tonumber(users_since), tonumber(sessions_since)
step, life, idle, era, refresh_key, clients = tonumber(step), tonumber(life), tonumber(idle), tonumber(era),
  tonumber(refresh_key), tonumber(clients)
secret_hash = string.gsub(secret_hash, '..', function(digits) return string.char(tonumber(digits, 16)) end)
for n = first, last - 1 do
  local hex, created = string.format('%012x', users_since + step * n), sessions_since + step * n
  local key = 'cs:s:{' .. string.sub(hex, 1, 8) .. '-' .. string.sub(hex, 9) .. '-7000-8000-' .. string.format('%012x', n) .. '}'
  local id = struct.pack('>I6I2I2I6', created, 0x7000, 0x8001, n)
  write(key, id, { flags = 0, idle_expires = created + idle, expires = created + life, user_epoch = 0,
    secret_hash = secret_hash, generation = 0, refresh_key = refresh_key, era = era, rotated = created, created = created,
    global_epoch = 0, client_epoch = 0, client = string.format('client-%05d', n % clients), attempt_id = '', scope = '',
    audience = 'api', user_agent = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    ip_address = '192.0.2.17', device_name = '' })
  redis.call('PEXPIREAT', key, string.format('%.0f', created + idle + 3600000))
end
return last - first
";
        let script = [include_str!("../../src/store/redis/lua/record.lua"), LOAD].concat();
        let hash = sha256(&SECRET)
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let fixed = [self.users_since, self.sessions_since, STEP, SESSION_LIFE, 7 * DAY, era].map(|n| n.to_string());
        let (key_id, clients) = (self.refresh_key.0.to_string(), CLIENTS.to_string());
        move || {
            for first in (from..to).step_by(SESSIONS_AT_ONCE.into()) {
                let (first, last) = (
                    first.to_string(),
                    to.min(first + u32::from(SESSIONS_AT_ONCE)).to_string(),
                );
                let mut words = vec!["EVAL", &script, "0", &first, &last];
                words.extend(fixed.iter().map(String::as_str));
                words.extend([key_id.as_str(), &hash, &clients]);
                crate::support::redis::command(&redis, &words);
            }
        }
    }
}

/// Odd, so that the products of all numbers differ.
const SCRAMBLE: u32 = 2_654_435_761;
const SQL_NAME: &str = "'u' || lpad(to_hex((n * 2654435761) & 4294967295), 8, '0')";
const SQL_CLIENT: &str = "'client-' || lpad((n % 10000)::text, 5, '0')";

fn id(since: i64, kind: u16, n: u32) -> Uuid {
    let millis = u128::try_from(since + STEP * i64::from(n)).unwrap();
    Uuid::from_u128((millis << 80) | (0x7000 << 64) | (u128::from(kind) << 48) | u128::from(n))
}

/// The SQL expression of [`id`].
pub fn sql_id(since: i64, kind: &str) -> String {
    let time = sql_time(since);
    format!("(lpad(to_hex({time}), 12, '0') || '7000{kind}' || lpad(to_hex(n), 12, '0'))::uuid")
}

fn sql_time(since: i64) -> String {
    format!("({since} + {STEP} * n)")
}

async fn era(database: &Database) -> i64 {
    database.scalar("SELECT era FROM meta").await.parse().unwrap()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// Adds the clients. The template is the client `bench`.
pub async fn add_clients(database: &Database) {
    let add = format!(
        "INSERT INTO clients SELECT {SQL_CLIENT}, t.display_name, t.grants, t.audiences, '{{}}', t.access_token_ttl,
                t.refresh_idle_ttl, t.session_ttl, t.refresh_grace, t.reuse_policy, t.max_sessions_per_user, false, 0,
                t.created, t.updated
         FROM generate_series(0::bigint, {CLIENTS} - 1) AS n, (SELECT * FROM clients WHERE id = 'bench') AS t"
    );
    database.execute(&add).await;
}

/// Adds revocations of the last 23 hours, each in a transaction of its own: nine of ten of a session, one of a user. None
/// concerns a user or session of the population.
pub async fn add_revocations(database: &Database, count: u32) {
    let now = SystemClock::new().now().0;
    let add = format!(
        "DO $$ BEGIN FOR n IN 0::bigint .. {count} - 1 LOOP
           INSERT INTO revocations (level, id, epoch, expires, revoked)
           SELECT CASE WHEN n % 10 = 0 THEN 'user' ELSE 'session' END, {id}::text,
                  CASE WHEN n % 10 = 0 THEN {now} ELSE 0 END, {now} + {SESSION_LIFE}, {now} - 82800000 + n % 1000000 * 82;
           COMMIT;
         END LOOP; END $$",
        id = sql_id(now - 2 * DAY, "8003"),
    );
    database.execute(&add).await;
}
