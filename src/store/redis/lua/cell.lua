-- A counter of failures: `store::throttles::Cell` in Lua. Its state: when it is next at rest, and how often it was
-- past its rate since.

local function cell(key)
  local arrival, strikes = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
  return tonumber(arrival), tonumber(strikes)
end

-- The state after one failure.
local function charged(arrival, strikes, now, interval, tolerance, doubling, longest)
  arrival = math.max(arrival, now) + interval
  local over = arrival - now > tolerance
  if doubling and over then
    return now + tolerance + math.min(interval * 2 ^ math.min(strikes, 20), longest), strikes + 1
  end
  return math.min(arrival, now + tolerance + interval), over and strikes or 0
end

-- Once at rest it is as if it had never counted, but for the strikes, which last one longest wait more.
local function keep(key, arrival, strikes, longest)
  redis.call('SET', key, string.format('%.0f %.0f', arrival, strikes), 'PXAT', string.format('%.0f', arrival + longest))
end
