-- Raises a counter to a value. A counter below `seen` came back from another backup since it was read: it stays, so that the next
-- comparison finds that.

local counter = KEYS[1]
local seen, value = unpack(ARGV)
seen, value = tonumber(seen), tonumber(value)

local current = tonumber(redis.call('GET', counter) or '0')
if seen <= current and current < value then
  redis.call('SET', counter, string.format('%.0f', value))
end
return 1
