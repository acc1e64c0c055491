-- The rate limit of `store::throttles::GcraState` in Lua (generic cell rate algorithm). A counter's value is
-- "<theoretical arrival time, ms> <failures over the limit>". All times and durations are milliseconds.

local function load_state(key)
  local arrival, over_limit = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
  return tonumber(arrival), tonumber(over_limit)
end

-- The state after one failure.
local function charged(arrival, over_limit, now, interval, tolerance, doubling, max_wait)
  arrival = math.max(arrival, now) + interval
  local over = arrival - now > tolerance
  if doubling and over then
    return now + tolerance + math.min(interval * 2 ^ math.min(over_limit, 20), max_wait), over_limit + 1
  end
  return arrival, over and over_limit or 0
end

-- The key expires once the arrival time has passed: the state is then equal to that of a new counter. Only a counter with
-- failures over the limit is kept for `max_wait` longer.
local function save_state(key, arrival, over_limit, max_wait)
  local expires = arrival + (over_limit > 0 and max_wait or 0)
  redis.call('SET', key, string.format('%.0f %.0f', arrival, over_limit), 'PXAT',
    string.format('%.0f', math.max(expires, 1)))
end
