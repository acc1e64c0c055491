-- Ends the sessions whose user epoch is smaller than the given one, but for the kept one: never a login made since.
-- KEYS: the user's hash. Answers how many live ones there were.

local epoch, keep = tonumber(ARGV[1]), ARGV[2]
local now, ended = clock(), 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local r = read_head(fields[i + 1])
  if r.user_epoch < epoch and fields[i] ~= keep then
    redis.call('HDEL', KEYS[1], fields[i])
    if is_live(r, now) then
      ended = ended + 1
    end
  end
end
return ended
