-- Notes the database server of a replica, and removes those of replicas that fell silent. Returns the values of all others and
-- of this one.

local key = KEYS[1]
local replica, side, ttl = unpack(ARGV)

local now = clock()
redis.call('HSET', key, replica, now .. ' ' .. side)
redis.call('PEXPIREAT', key, now + tonumber(ttl))
local sides = {}
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local noted, value = string.match(fields[i + 1], '^(%d+) (.*)$')
  -- A time of the future was noted before the clock was set back, or by no replica.
  if noted and tonumber(noted) <= now and tonumber(noted) + tonumber(ttl) >= now then
    sides[#sides + 1] = value
  else
    redis.call('HDEL', key, fields[i])
  end
end
return sides
