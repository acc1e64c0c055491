-- Ends the user's sessions whose user epoch is smaller than `epoch`, except session `keep`, among the records at `cursor`.
-- Later logins have a larger epoch and stay. Returns { ended, cursor }: how many of the removed sessions were live, and the
-- cursor of the next records, 0 after the last ones.

local user_key = KEYS[1]
local cursor, max_read, epoch, keep = unpack(ARGV)
epoch = tonumber(epoch)

local now, ended = clock(), 0
local fields, next_cursor = read_fields(user_key, cursor, tonumber(max_read))
for i = 1, #fields, 2 do
  local session_id, head = fields[i], read_head(fields[i + 1])
  if head.user_epoch < epoch and session_id ~= keep then
    redis.call('HDEL', user_key, session_id)
    if is_live(head, now) then
      ended = ended + 1
    end
  end
end
return { ended, next_cursor }
