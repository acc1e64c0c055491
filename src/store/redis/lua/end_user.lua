-- Ends the user's sessions whose user epoch is smaller than `epoch`, except session `keep`. Later logins have a larger
-- epoch and stay. Returns how many of the removed sessions were live.

local user_key = KEYS[1]
local epoch, keep = unpack(ARGV)
epoch = tonumber(epoch)

local now, ended = clock(), 0
local fields = redis.call('HGETALL', user_key)
for i = 1, #fields, 2 do
  local session_id, head = fields[i], read_head(fields[i + 1])
  if head.user_epoch < epoch and session_id ~= keep then
    redis.call('HDEL', user_key, session_id)
    if is_live(head, now) then
      ended = ended + 1
    end
  end
end
return ended
