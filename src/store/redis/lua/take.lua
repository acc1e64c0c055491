-- Counts one attempt if the limit allows one now.
-- Returns { wait, 0, 0 } if it does not, else { 0, added to the arrival time, added to the failures over the limit }.

local counter = KEYS[1]
local interval, tolerance, doubling, max_wait = unpack(ARGV)
interval, tolerance, doubling, max_wait = tonumber(interval), tonumber(tolerance), doubling == '1', tonumber(max_wait)

local now = clock()
local arrival, over_limit = load_state(counter)
if arrival - now > tolerance then
  return { arrival - now - tolerance, 0, 0 }
end
local new_arrival, new_over_limit = charged(arrival, over_limit, now, interval, tolerance, doubling, max_wait)
save_state(counter, new_arrival, new_over_limit, max_wait)
return { 0, new_arrival - math.max(arrival, now), math.max(new_over_limit - over_limit, 0) }
