-- Counts one attempt if one may be made now. KEYS: the counter. ARGV: as charge.lua.
-- Answers { how long to wait, 0, 0 }, or { 0, what was added to the arrival, and to the strikes }.

local interval, tolerance, doubling, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local now = clock()
local arrival, strikes = cell(KEYS[1])
if arrival - now > tolerance then
  return { arrival - now - tolerance, 0, 0 }
end
local after, struck = charged(arrival, strikes, now, interval, tolerance, doubling, longest)
keep(KEYS[1], after, struck, longest)
return { 0, after - math.max(arrival, now), math.max(struck - strikes, 0) }
