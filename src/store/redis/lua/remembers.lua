-- Whether a name is remembered. KEYS: the name.

return redis.call('EXISTS', KEYS[1])
