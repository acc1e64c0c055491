-- Counts one failure.

local counter = KEYS[1]
local interval, tolerance, doubling, max_wait = unpack(ARGV)
interval, tolerance, doubling, max_wait = tonumber(interval), tonumber(tolerance), doubling == '1', tonumber(max_wait)

local arrival, over_limit = load_state(counter)
arrival, over_limit = charged(arrival, over_limit, clock(), interval, tolerance, doubling, max_wait)
save_state(counter, arrival, over_limit, max_wait)
return 0
