-- Reads a counter. Returns { theoretical arrival time, failures over the limit, now }.

local arrival, over_limit = load_state(KEYS[1])
return { arrival, over_limit, clock() }
