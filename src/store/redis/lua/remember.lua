-- Remembers a name. KEYS: the name. ARGV: for how long.

redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 0
