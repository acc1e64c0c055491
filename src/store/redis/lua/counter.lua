-- Advances a counter that measures time: by one, if its last step is at least `interval` ms old by the clock of this server.
-- A missing counter starts from the stored value. One that is behind it by less than `backup_steps` lost its newest steps
-- in a failover and is raised to it.
-- Returns { value, behind }: the new value, and how many steps the counter was behind the stored value.

local counter, last_step = KEYS[1], KEYS[2]
local stored_value, backup_steps, interval = unpack(ARGV)
stored_value, backup_steps, interval = tonumber(stored_value), tonumber(backup_steps), tonumber(interval)

local before = tonumber(redis.call('GET', counter) or '-1')
local value = before < 0 and stored_value or before
local behind = math.max(stored_value - value, 0)
if behind < backup_steps then
  value = value + behind
end
local now, last = clock(), tonumber(redis.call('GET', last_step) or '0')
-- A last step in the future was made before the clock was set back.
if now - last >= interval or last > now then
  value = value + 1
  redis.call('SET', last_step, string.format('%.0f', now))
end
if value ~= before then
  redis.call('SET', counter, string.format('%.0f', value))
end
return { value, behind }
