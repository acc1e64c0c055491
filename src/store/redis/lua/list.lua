-- The live sessions of one era. KEYS: the user's hash.

local era, now, found = tonumber(ARGV[1]), clock(), {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local r = read(fields[i + 1])
  if r.version == VERSION and r.era == era and is_live(r, now) then
    found[#found + 1] = view(fields[i], r)
  end
end
return found
