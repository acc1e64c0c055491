-- The packed session record. This text precedes every script that reads or writes one.
--
-- The user's key is a hash: session id (16 bytes) -> head, body. The head has the same layout in every version, so that
-- a script of one version can expire, count and end records of another version.
--   head: version, flags, idle expiry, absolute expiry, user epoch
--   body: secret hash, generation, refresh key, era, rotated, created, global epoch, client epoch, client, attempt id,
--         scope, audience, user agent, IP address, device name; a tombstone ends with the generation that was presented
-- Times are milliseconds since the Unix epoch, from the TIME of this server; durations are milliseconds. Scopes and
-- audiences contain no spaces, so a list of them is one string, separated by spaces.
--
-- The packing limits values, and struct.pack does not check them: a text has at most 255 bytes, a list of scopes or
-- audiences at most 65,535, and a time or an epoch is at most 2^48 - 1 ms (the year 10889). The rules enforce the text
-- limits before they call the store: ClientId in model/ids.rs (64 bytes), MAX_ATTEMPT_ID in token/refresh.rs (64 bytes),
-- SessionContext in model/session.rs (128 bytes), MAX_NAMES and MAX_NAME_LEN in model/grant.rs (64 names of 256 bytes).
--
-- VERSION is raised with every change of the body. A script reads only the head of a record of another version: such a
-- record still counts, expires and can be ended; a refresh of it fails with the error VERSION, which the caller gets as
-- STORE_UNAVAILABLE. The head must never change.

local VERSION = 1
local TOMBSTONE, FAST_FORWARDED = 1, 2

local function read_head(raw)
  local version, flags, idle_expires, expires, user_epoch = struct.unpack('>BBI6I6I6', raw)
  return { version = version, flags = flags, idle_expires = idle_expires, expires = expires, user_epoch = user_epoch,
    ends = math.min(idle_expires, expires), tombstone = flags % 2 == TOMBSTONE }
end

-- The era and the client of a record of this version. Cheaper than the whole record by two thirds.
local function read_owner(raw)
  local era = struct.unpack('>I6', raw, 61)
  local client = struct.unpack('>Bc0', raw, 91)
  return era, client
end

-- The whole record, or only its head where another version wrote it. A table that is made with all its fields is cheaper than
-- one that grows.
local function read(raw)
  local version, flags, idle_expires, expires, user_epoch, at = struct.unpack('>BBI6I6I6', raw)
  if version ~= VERSION then
    return read_head(raw)
  end
  local secret_hash, generation, refresh_key, era, rotated, created, global_epoch, client_epoch, at =
    struct.unpack('>c32I4I4I6I6I6I6I6', raw, at)
  local client, attempt_id, scope, audience, user_agent, ip_address, device_name, at =
    struct.unpack('>Bc0Bc0I2c0I2c0Bc0Bc0Bc0', raw, at)
  local tombstone = flags % 2 == TOMBSTONE
  return { version = version, flags = flags, idle_expires = idle_expires, expires = expires, user_epoch = user_epoch,
    ends = math.min(idle_expires, expires), tombstone = tombstone, secret_hash = secret_hash, generation = generation,
    refresh_key = refresh_key, era = era, rotated = rotated, created = created, global_epoch = global_epoch,
    client_epoch = client_epoch, client = client, attempt_id = attempt_id, scope = scope, audience = audience,
    user_agent = user_agent, ip_address = ip_address, device_name = device_name,
    presented = tombstone and struct.unpack('>I4', raw, at) or nil }
end

local function write(user_key, session_id, r)
  local raw = struct.pack('>BBI6I6I6', VERSION, r.flags, r.idle_expires, r.expires, r.user_epoch)
    .. struct.pack('>c32I4I4I6I6I6I6I6', r.secret_hash, r.generation, r.refresh_key, r.era, r.rotated, r.created,
      r.global_epoch, r.client_epoch)
    .. struct.pack('>Bc0Bc0I2c0I2c0Bc0Bc0Bc0', #r.client, r.client, #r.attempt_id, r.attempt_id, #r.scope, r.scope,
      #r.audience, r.audience, #r.user_agent, r.user_agent, #r.ip_address, r.ip_address, #r.device_name, r.device_name)
  if r.flags == TOMBSTONE then
    raw = raw .. struct.pack('>I4', r.presented)
  end
  redis.call('HSET', user_key, session_id, raw)
end

-- The user's records, as fields and values, and the cursor of the next ones: '0' after the last. A user with at most
-- `max_read` records gets all at once. Another version may have stored more: of those about `max_read` are read at a time, so
-- that no script takes long.
local function read_fields(user_key, cursor, max_read)
  if cursor == '0' and redis.call('HLEN', user_key) <= max_read then
    return redis.call('HGETALL', user_key), '0'
  end
  local page = redis.call('HSCAN', user_key, cursor, 'COUNT', max_read)
  return page[2], page[1]
end

local function is_live(r, now)
  return now < r.ends and not r.tombstone
end

-- The reply for one live session. `session_view` in sessions.rs reads the values in this order: change both together.
local function view(session_id, r)
  return { session_id, r.client, r.created, r.rotated, r.idle_expires, r.expires, r.scope, r.global_epoch, r.user_epoch,
    r.client_epoch, r.user_agent, r.ip_address, r.device_name }
end
