-- Takes back what take.lua counted. KEYS: the counter. ARGV: what was added to the arrival, and to the strikes; the longest
-- wait. A counter that has gone meanwhile is at rest already.

local arrival, strikes = cell(KEYS[1])
if arrival > 0 then
  keep(KEYS[1], math.max(arrival - tonumber(ARGV[1]), 0), math.max(strikes - tonumber(ARGV[2]), 0), tonumber(ARGV[3]))
end
return 0
