-- Takes back what take.lua counted. A counter that has expired since needs no refund.

local counter = KEYS[1]
local added_arrival, added_over_limit, max_wait = unpack(ARGV)

local arrival, over_limit = load_state(counter)
if arrival > 0 then
  arrival = math.max(arrival - tonumber(added_arrival), 0)
  over_limit = math.max(over_limit - tonumber(added_over_limit), 0)
  save_state(counter, arrival, over_limit, tonumber(max_wait))
end
return 0
