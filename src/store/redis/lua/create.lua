-- Stores a session at generation 0, and removes the user's records that expired too long ago. If the user has too many
-- records, others go as well: model::record::admit in Lua. A record of another version is known by its head alone, so it
-- goes only if it is expired or a tombstone.
-- Returns { idle expiry, sessions, evicted }: the user's other live sessions at the client if they reach `limit`, else
-- none; the id and the absolute expiry of each session that the caller must revoke.

local user_key = KEYS[1]
local session_id, limit, max_records, max_evicted, max_read, expired_record_ttl, idle_ttl, secret_hash, refresh_key, era,
  client, scope, audience, created, expires, global_epoch, user_epoch, client_epoch, user_agent, ip_address,
  device_name = unpack(ARGV)
limit, max_records, max_evicted = tonumber(limit), tonumber(max_records), tonumber(max_evicted)
max_read, expired_record_ttl, idle_ttl = tonumber(max_read), tonumber(expired_record_ttl), tonumber(idle_ttl)

local now = clock()
local new = {
  flags = 0, generation = 0, attempt_id = '',
  secret_hash = secret_hash, refresh_key = tonumber(refresh_key), era = tonumber(era), client = client, scope = scope,
  audience = audience, created = tonumber(created), rotated = tonumber(created), expires = tonumber(expires),
  global_epoch = tonumber(global_epoch), user_epoch = tonumber(user_epoch), client_epoch = tonumber(client_epoch),
  user_agent = user_agent, ip_address = ip_address, device_name = device_name,
}
new.idle_expires = math.min(now + idle_ttl, new.expires)

local total = redis.call('HLEN', user_key)
local fields, cursor = read_fields(user_key, '0', max_read)
local expired, tombstones, others, last_end = {}, {}, {}, new.idle_expires
for i = 1, #fields, 2 do
  local id, raw = fields[i], fields[i + 1]
  local head = read_head(raw)
  if now >= head.ends + expired_record_ttl then
    redis.call('HDEL', user_key, id)
    total = total - 1
  else
    last_end = math.max(last_end, head.ends)
    local its_era, its_client
    if head.version == VERSION then
      its_era, its_client = read_owner(raw)
    end
    if now >= head.ends or its_era and its_era < new.era then
      expired[#expired + 1] = id
    elseif head.tombstone then
      tombstones[#tombstones + 1] = { id = id, raw = raw }
    elseif its_client == new.client and its_era == new.era then
      others[#others + 1] = { id = id, raw = raw }
    end
  end
end

local surplus, evicted = total + 1 - max_records, {}

-- Whether session id `a` is smaller than `b`. Ids begin with the time at which they were made. Compared as numbers, because
-- Lua compares strings by the locale of the server.
local function is_older(a, b)
  local a1, a2, a3 = struct.unpack('>I6I5I5', a)
  local b1, b2, b3 = struct.unpack('>I6I5I5', b)
  return a1 < b1 or a1 == b1 and (a2 < b2 or a2 == b2 and a3 < b3)
end

-- Removes the oldest of `sessions` while there are too many records.
local function evict(sessions)
  while surplus > 0 and #evicted < max_evicted and #sessions > 0 do
    local oldest = 1
    for i = 2, #sessions do
      if is_older(sessions[i].id, sessions[oldest].id) then
        oldest = i
      end
    end
    local session = table.remove(sessions, oldest)
    redis.call('HDEL', user_key, session.id)
    evicted[#evicted + 1] = { session.id, read_head(session.raw).expires }
    surplus = surplus - 1
  end
end

if surplus > 0 then
  for _, id in ipairs(expired) do
    redis.call('HDEL', user_key, id)
  end
  surplus = surplus - #expired
  evict(tombstones)
  evict(others)
end

local over_limit = {}
if #others >= limit then
  for _, session in ipairs(others) do
    over_limit[#over_limit + 1] = view(session.id, read(session.raw))
  end
end

write(user_key, session_id, new)
if cursor == '0' then
  redis.call('PEXPIREAT', user_key, last_end + expired_record_ttl)
else
  -- Records that were not read may end later.
  redis.call('PEXPIREAT', user_key, last_end + expired_record_ttl, 'GT')
end
return { new.idle_expires, over_limit, evicted }
