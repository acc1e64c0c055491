-- Raises a counter to a value, unless it is past it. KEYS: the counter. ARGV: the value.

local now = tonumber(redis.call('GET', KEYS[1]) or '0')
if now < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
