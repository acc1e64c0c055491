-- Ends one session. Returns 1 if there was a live one, else 0.

local user_key = KEYS[1]
local session_id = unpack(ARGV)

local raw = redis.call('HGET', user_key, session_id)
if not raw then
  return 0
end
redis.call('HDEL', user_key, session_id)
return is_live(read_head(raw), clock()) and 1 or 0
