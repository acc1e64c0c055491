-- Counts one failure. KEYS: the counter. ARGV: interval, tolerance, whether waits double, the longest wait.

local interval, tolerance, doubling, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local arrival, strikes = cell(KEYS[1])
arrival, strikes = charged(arrival, strikes, clock(), interval, tolerance, doubling, longest)
keep(KEYS[1], arrival, strikes, longest)
return 0
