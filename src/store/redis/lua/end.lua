-- Ends one session. KEYS: the user's hash. Answers 1 if a live one was known.

local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
return is_live(read_head(raw), clock()) and 1 or 0
