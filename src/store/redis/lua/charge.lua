-- Counts one failure. KEYS: the counter. ARGV: interval, tolerance, whether waits double, the longest wait.

local interval, tolerance, doubling, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local now = clock()
local arrival, strikes = cell(KEYS[1])

arrival = math.max(arrival, now) + interval
local over = arrival - now > tolerance
if doubling and over then
  arrival = now + tolerance + math.min(interval * 2 ^ math.min(strikes, 20), longest)
  strikes = strikes + 1
else
  arrival = math.min(arrival, now + tolerance + interval)
  strikes = over and strikes or 0
end

-- Once at rest it is as if it had never counted, but for the strikes, which last one longest wait more.
redis.call('SET', KEYS[1], string.format('%.0f %.0f', arrival, strikes), 'PXAT', string.format('%.0f', arrival + longest))
return 0
