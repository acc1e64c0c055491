-- The state of a counter, and the time. KEYS: the counter.

local arrival, strikes = cell(KEYS[1])
return { arrival, strikes, clock() }
