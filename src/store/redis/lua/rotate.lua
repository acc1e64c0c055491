-- Decides what a presented refresh token means and moves the record: model::record in Lua.
-- KEYS: the user's hash. Answers { what, ... }; refuses before it changes anything.

local key, id = KEYS[1], ARGV[1]
local hash, era, p = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local attempt, grace, tolerant = ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local idle_ttl, refresh_key = tonumber(ARGV[8]), tonumber(ARGV[9])
local agent, address, device = ARGV[10], ARGV[11], ARGV[12]
local linger, farthest, own_prefix = tonumber(ARGV[13]), tonumber(ARGV[14]), ARGV[15]
local own_audience, room = ARGV[24], tonumber(ARGV[25])
local LAST_GENERATION = 4294967295

-- model::grant::narrow. `at` is where requested, any, own and the allowed names stand among the arguments; `besides` is
-- allowed as well.
local function narrow(at, granted, besides)
  local requested, any, own, allowed = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2] == '1', { [besides] = true }
  for name in string.gmatch(ARGV[at + 3], '[^ ]+') do
    allowed[name] = true
  end
  local function allows(name)
    if allowed[name] then
      return true
    elseif string.sub(name, 1, #own_prefix) == own_prefix then
      return own
    end
    return any
  end
  local had, still = {}, {}
  for name in string.gmatch(granted, '[^ ]+') do
    had[name] = true
    if allows(name) then
      still[#still + 1] = name
    end
  end
  if requested == '' then
    return table.concat(still, ' ')
  end
  for name in string.gmatch(requested, '[^ ]+') do
    if not had[name] then
      return nil, 'wider', name
    elseif not allows(name) then
      return nil, 'lost', name
    end
  end
  return requested
end

local function evidence(r, first)
  return { 'reused', first and 1 or 0, r.presented, r.generation, r.rotated, r.expires }
end

local raw = redis.call('HGET', key, id)
if not raw then
  return { 'unknown' }
end
local now, r = clock(), read(raw)
if r.version ~= VERSION then
  return redis.error_reply('VERSION a session record of another version')
end
if r.era ~= era or r.hash ~= hash or now >= r.ends + linger then
  return { 'unknown' }
end
if now >= r.ends then
  return { 'expired' }
end
if r.tombstone then
  return evidence(r, false)
end

local c = r.generation
if p > c + farthest then
  redis.call('HDEL', key, id)
  return { 'too_far_ahead' }
end
if p < c then
  local in_grace = math.max(now - r.rotated, 0) < grace
  local replays = c - p == 1 and (tolerant or attempt == r.attempt)
    or c - p == 2 and r.flags == FAST_FORWARDED
  if not (in_grace and replays) then
    r.flags, r.presented = TOMBSTONE, p
    r.attempt, r.scope, r.audience, r.agent, r.address, r.device = '', '', '', '', '', ''
    write(key, id, r)
    return evidence(r, true)
  end
end

local scope, why, name = narrow(16, r.scope, '')
if not scope then
  return { 'refused', 'scope', why, name }
end
-- model::grant::narrow_audience: a right on Countersign brought its audience along, and a token is for somebody.
local brings, audience = string.find(' ' .. r.scope, ' ' .. own_prefix, 1, true) and own_audience or '', nil
audience, why, name = narrow(20, r.audience, brings)
if audience == '' and r.audience ~= '' then
  audience, why, name = nil, 'lost', string.match(r.audience, '[^ ]+')
end
if not audience then
  return { 'refused', 'audience', why, name }
end
-- model::grant::weight: the token is made after this, and a session that moved on without one is lost.
local _, commas = string.gsub(audience, ' ', '')
local _, escapes = string.gsub(audience, '["\\]', '')
local quotes = audience == '' and 0 or 2 * (commas + 1)
local member = scope == '' and 0 or #',"scope":""'
if member + #scope + #audience + quotes + escapes > room then
  return { 'refused', 'token', 'large', '' }
end

local what, lost = 'replayed', 0
if p >= c then
  what, lost = 'rotated', p - c
  r.flags = lost > 0 and FAST_FORWARDED or 0
  r.generation, r.key, r.rotated, r.attempt = math.min(p + 1, LAST_GENERATION), refresh_key, now, attempt
  r.idle = math.min(now + idle_ttl, r.expires)
  r.agent = agent ~= '' and agent or r.agent
  r.address = address ~= '' and address or r.address
  r.device = device ~= '' and device or r.device
  write(key, id, r)
  redis.call('PEXPIREAT', key, r.idle + linger, 'GT')
end
return { what, lost, r.generation, r.key, scope, audience, r.created, r.idle, r.expires, now }
