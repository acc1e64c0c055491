-- Stores a session at generation 0 and drops what has been expired for too long.
-- KEYS: the user's hash. Answers the idle expiry and, if the user is crowded at the client, the other live sessions.

local key = KEYS[1]
local id, limit, linger, idle_ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = clock()

local new = {
  flags = 0, generation = 0, attempt = '',
  hash = ARGV[5], key = tonumber(ARGV[6]), era = tonumber(ARGV[7]), client = ARGV[8], scope = ARGV[9],
  audience = ARGV[10], created = tonumber(ARGV[11]), rotated = tonumber(ARGV[11]), expires = tonumber(ARGV[12]),
  global_epoch = tonumber(ARGV[13]), user_epoch = tonumber(ARGV[14]), client_epoch = tonumber(ARGV[15]),
  agent = ARGV[16], address = ARGV[17], device = ARGV[18],
}
new.idle = math.min(now + idle_ttl, new.expires)

local others, last = {}, new.idle
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local r = read(fields[i + 1])
  if now >= r.ends + linger then
    redis.call('HDEL', key, fields[i])
  else
    last = math.max(last, r.ends)
    if r.version == VERSION and r.client == new.client and r.era == new.era and is_live(r, now) then
      others[#others + 1] = view(fields[i], r)
    end
  end
end
if #others < limit then
  others = {}
end

write(key, id, new)
redis.call('PEXPIREAT', key, last + linger)
return { new.idle, others }
