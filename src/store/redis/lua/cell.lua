-- A counter of failures: `store::throttles::Cell` in Lua. Its state: when it is next at rest, and how often it was
-- past its rate since.

local function cell(key)
  local arrival, strikes = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
  return tonumber(arrival), tonumber(strikes)
end
