-- Lists the user's live sessions of one era among the records at `cursor`. Returns { sessions, cursor }: the cursor is the one
-- of the next records, 0 after the last ones. A session may be listed twice.

local user_key = KEYS[1]
local cursor, max_read, era = unpack(ARGV)
era = tonumber(era)

local now, sessions = clock(), {}
local fields, next_cursor = read_fields(user_key, cursor, tonumber(max_read))
for i = 1, #fields, 2 do
  local record = read(fields[i + 1])
  if record.version == VERSION and record.era == era and is_live(record, now) then
    sessions[#sessions + 1] = view(fields[i], record)
  end
end
return { sessions, next_cursor }
