-- Remembers a key for `ttl` milliseconds.

local ttl = unpack(ARGV)

redis.call('SET', KEYS[1], '', 'PX', ttl)
return 0
