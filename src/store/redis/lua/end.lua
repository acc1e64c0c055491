-- Ends sessions, whose ids are the arguments. A tombstone stays: it is the evidence of a reuse until that is revoked.
-- Returns how many of the sessions were live.

local user_key = KEYS[1]

local now, ended = clock(), 0
for _, session_id in ipairs(ARGV) do
  local raw = redis.call('HGET', user_key, session_id)
  local head = raw and read_head(raw)
  if head and not (head.tombstone and now < head.ends) then
    redis.call('HDEL', user_key, session_id)
    ended = ended + (is_live(head, now) and 1 or 0)
  end
end
return ended
