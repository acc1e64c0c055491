-- Returns 1 if the key is remembered, else 0.

return redis.call('EXISTS', KEYS[1])
