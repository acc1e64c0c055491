-- The packed session record. This text stands before every script that touches one.
--
-- A field of a user's hash: the session's 16 bytes -> head, body. The head keeps its form in every version, so that a
-- script of one version expires, counts and ends what another version wrote.
--   head: version, flags, idle expiry, absolute expiry, user epoch
--   body: secret hash, generation, refresh key, era, rotated, created, global epoch, client epoch, client, attempt,
--         scope, audience, user agent, address, device; a tombstone ends with the generation that was presented
-- Times are milliseconds since the Unix epoch, from this server's TIME. Scopes and audiences hold no spaces, so a list
-- of them is one string.

local VERSION = 1
local TOMBSTONE, FAST_FORWARDED = 1, 2

local function read_head(raw)
  local r = {}
  r.version, r.flags, r.idle, r.expires, r.user_epoch = struct.unpack('>BBI6I6I6', raw)
  r.ends = math.min(r.idle, r.expires)
  r.tombstone = r.flags % 2 == TOMBSTONE
  return r
end

local function read(raw)
  local r = read_head(raw)
  if r.version ~= VERSION then
    return r
  end
  local _, at = struct.unpack('c20', raw)
  r.hash, r.generation, r.key, r.era, r.rotated, r.created, r.global_epoch, r.client_epoch, at =
    struct.unpack('>c32I4I4I6I6I6I6I6', raw, at)
  r.client, r.attempt, r.scope, r.audience, r.agent, r.address, r.device, at =
    struct.unpack('>Bc0Bc0I2c0I2c0Bc0Bc0Bc0', raw, at)
  if r.tombstone then
    r.presented = struct.unpack('>I4', raw, at)
  end
  return r
end

local function write(key, field, r)
  local raw = struct.pack('>BBI6I6I6', VERSION, r.flags, r.idle, r.expires, r.user_epoch)
    .. struct.pack('>c32I4I4I6I6I6I6I6', r.hash, r.generation, r.key, r.era, r.rotated, r.created, r.global_epoch,
      r.client_epoch)
    .. struct.pack('>Bc0Bc0I2c0I2c0Bc0Bc0Bc0', #r.client, r.client, #r.attempt, r.attempt, #r.scope, r.scope,
      #r.audience, r.audience, #r.agent, r.agent, #r.address, r.address, #r.device, r.device)
  if r.flags == TOMBSTONE then
    raw = raw .. struct.pack('>I4', r.presented)
  end
  redis.call('HSET', key, field, raw)
end

local function is_live(r, now)
  return now < r.ends and not r.tombstone
end

local function view(field, r)
  return { field, r.client, r.created, r.rotated, r.idle, r.expires, r.scope, r.global_epoch, r.user_epoch,
    r.client_epoch, r.agent, r.address, r.device }
end
