-- Appends messages to the stream. Each names the id of the message before it, so that a reader notices a missing one.
-- The messages follow the named arguments. Returns the id of the last message.

local stream = KEYS[1]
local max_len = unpack(ARGV)
local FIRST_MESSAGE = 2

local last_id = '0-0'
if redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last_id = info[i + 1]
    end
  end
end
for i = FIRST_MESSAGE, #ARGV do
  last_id = redis.call('XADD', stream, 'MAXLEN', '~', max_len, '*', 'after', last_id, 'message', ARGV[i])
end
return last_id
