-- Lists the user's live sessions of one era.

local user_key = KEYS[1]
local era = unpack(ARGV)
era = tonumber(era)

local now, sessions = clock(), {}
local fields = redis.call('HGETALL', user_key)
for i = 1, #fields, 2 do
  local record = read(fields[i + 1])
  if record.version == VERSION and record.era == era and is_live(record, now) then
    sessions[#sessions + 1] = view(fields[i], record)
  end
end
return sessions
