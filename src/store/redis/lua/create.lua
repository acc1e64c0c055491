-- Stores a session at generation 0, and removes the user's records that expired too long ago.
-- Returns { idle expiry, sessions }: the user's other live sessions at the client if they reach `limit`, else none.

local user_key = KEYS[1]
local session_id, limit, expired_record_ttl, idle_ttl, secret_hash, refresh_key, era, client, scope, audience, created,
  expires, global_epoch, user_epoch, client_epoch, user_agent, ip_address, device_name = unpack(ARGV)
limit, expired_record_ttl, idle_ttl = tonumber(limit), tonumber(expired_record_ttl), tonumber(idle_ttl)

local now = clock()
local new = {
  flags = 0, generation = 0, attempt_id = '',
  secret_hash = secret_hash, refresh_key = tonumber(refresh_key), era = tonumber(era), client = client, scope = scope,
  audience = audience, created = tonumber(created), rotated = tonumber(created), expires = tonumber(expires),
  global_epoch = tonumber(global_epoch), user_epoch = tonumber(user_epoch), client_epoch = tonumber(client_epoch),
  user_agent = user_agent, ip_address = ip_address, device_name = device_name,
}
new.idle_expires = math.min(now + idle_ttl, new.expires)

local others, last_end = {}, new.idle_expires
local fields = redis.call('HGETALL', user_key)
for i = 1, #fields, 2 do
  local record = read(fields[i + 1])
  if now >= record.ends + expired_record_ttl then
    redis.call('HDEL', user_key, fields[i])
  else
    last_end = math.max(last_end, record.ends)
    if record.version == VERSION and record.client == new.client and record.era == new.era and is_live(record, now) then
      others[#others + 1] = view(fields[i], record)
    end
  end
end
if #others < limit then
  others = {}
end

write(user_key, session_id, new)
redis.call('PEXPIREAT', user_key, last_end + expired_record_ttl)
return { new.idle_expires, others }
