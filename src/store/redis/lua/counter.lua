-- Adds one to a counter; a missing counter starts from the stored value. Returns the new value.

local counter = KEYS[1]
local stored_value = unpack(ARGV)

if redis.call('EXISTS', counter) == 0 then
  redis.call('SET', counter, stored_value)
end
return redis.call('INCR', counter)
