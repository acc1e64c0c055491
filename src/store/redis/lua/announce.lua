-- Adds messages to the stream. Each names the one before it, so that a reader sees whether it missed any.
-- KEYS: the stream. ARGV: about how many to keep, then the messages.

local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
end
for i = 2, #ARGV do
  last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'after', last, 'message', ARGV[i])
end
return last
