-- Raises a counter to a value, unless it is higher already.

local counter = KEYS[1]
local value = unpack(ARGV)

if tonumber(redis.call('GET', counter) or '0') < tonumber(value) then
  redis.call('SET', counter, value)
end
return 1
