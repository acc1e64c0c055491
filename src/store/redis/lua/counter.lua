-- Advances a counter; one that is missing starts from the known value. KEYS: the counter. Answers its value.

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('INCR', KEYS[1])
