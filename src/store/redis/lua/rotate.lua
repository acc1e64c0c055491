-- Decides what a presented refresh token means and changes the record accordingly: model::record in Lua.
-- Returns { rotation, ... }; `rotation` in sessions.rs reads it. What each one writes:
--   rotated        the record, and a later expiry of the user's key
--   reused         a tombstone in place of the record, the first time; later uses of a tombstone write nothing
--   too_far_ahead  deletes the record
--   replayed, late, refused, expired, unknown  nothing

local user_key = KEYS[1]
local session_id, secret_hash, era, generation, attempt_id, grace, tolerant, idle_ttl, refresh_key, user_agent,
  ip_address, device_name, expired_record_ttl, max_fast_forward, caller_scope_prefix, scope_requested, scope_any,
  scope_own, scope_names, audience_requested, audience_any, audience_own, audience_names, own_audience,
  max_claims_bytes, may_be_late, not_after = unpack(ARGV)
era, generation, grace, tolerant = tonumber(era), tonumber(generation), tonumber(grace), tolerant == '1'
idle_ttl, refresh_key, expired_record_ttl = tonumber(idle_ttl), tonumber(refresh_key), tonumber(expired_record_ttl)
max_fast_forward, max_claims_bytes = tonumber(max_fast_forward), tonumber(max_claims_bytes)
-- `not_after` is 0 if it is not known.
may_be_late, not_after = may_be_late == '1', tonumber(not_after)

local LAST_GENERATION = 4294967295

-- model::grant::Allowed, with one more name `extra`. `any` allows every name without the prefix of caller scopes, `own`
-- every name with it.
local function allowed_set(any, own, names, extra)
  local set = { any = any == '1', own = own == '1', names = { [extra] = true } }
  for name in string.gmatch(names, '[^ ]+') do
    set.names[name] = true
  end
  return set
end

local function allows(allowed, name)
  if allowed.names[name] then
    return true
  elseif string.sub(name, 1, #caller_scope_prefix) == caller_scope_prefix then
    return allowed.own
  end
  return allowed.any
end

-- model::grant::narrow. Returns the narrowed names, or nil, why a requested name is refused, and that name.
local function narrow(requested, granted, any, own, names, extra)
  if requested == '' and any == '1' and not string.find(' ' .. granted, ' ' .. caller_scope_prefix, 1, true) then
    -- The usual case, without the tables.
    return granted
  end
  local allowed = allowed_set(any, own, names, extra)
  local is_granted, still_allowed = {}, {}
  for name in string.gmatch(granted, '[^ ]+') do
    is_granted[name] = true
    if allows(allowed, name) then
      still_allowed[#still_allowed + 1] = name
    end
  end
  if requested == '' then
    return table.concat(still_allowed, ' ')
  end
  for name in string.gmatch(requested, '[^ ]+') do
    if not is_granted[name] then
      return nil, 'wider', name
    elseif not allows(allowed, name) then
      return nil, 'lost', name
    end
  end
  return requested
end

-- model::grant::narrow_audience. A granted caller scope brings Countersign's own audience. A token needs an audience:
-- if none of the granted ones is left, the first one counts as lost.
local function narrow_audience(requested, granted, granted_scope)
  local has_caller_scope = string.find(' ' .. granted_scope, ' ' .. caller_scope_prefix, 1, true)
  local extra = has_caller_scope and own_audience or ''
  local narrowed, why, name = narrow(requested, granted, audience_any, audience_own, audience_names, extra)
  if narrowed == '' and granted ~= '' then
    return nil, 'lost', string.match(granted, '[^ ]+')
  end
  return narrowed, why, name
end

-- model::grant::json_len: how many bytes scopes and audiences take in the payload of the access token. A session stored
-- before audiences refused quotes and backslashes may hold some: each of them takes a byte more than is counted here.
-- The size is checked again when the token is signed, so no token over the limit leaves the service.
local function json_len(scope, audience)
  local scope_member = scope == '' and 0 or #',"scope":""' + #scope
  -- Each audience stands in quotes; the comma between two is as long as the space here.
  local _, audiences = string.gsub(audience, '[^ ]+', '')
  return scope_member + #audience + 2 * audiences
end

local function reuse(r, first)
  return { 'reused', first and 1 or 0, r.presented, r.generation, r.rotated, r.expires }
end

local raw = redis.call('HGET', user_key, session_id)
if not raw then
  return { 'unknown' }
end
local now, r = clock(), read(raw)
if r.version ~= VERSION then
  return redis.error_reply('VERSION a session record of another version')
end
if r.era ~= era or r.secret_hash ~= secret_hash or now >= r.ends + expired_record_ttl then
  return { 'unknown' }
end
if now >= r.ends then
  return { 'expired' }
end
if r.tombstone then
  return reuse(r, false)
end

local current = r.generation
local is_replay = generation < current and math.max(now - r.rotated, 0) < grace
  and (current - generation == 1 and (tolerant or attempt_id == r.attempt_id)
    or current - generation == 2 and r.flags == FAST_FORWARDED)
local is_overdue = not_after > 0 and now > not_after
if not is_replay and (is_overdue or may_be_late and generation < current) then
  return { 'late', now }
end
if generation > current + max_fast_forward then
  redis.call('HDEL', user_key, session_id)
  return { 'too_far_ahead' }
end
if generation < current and not is_replay then
  r.flags, r.presented = TOMBSTONE, generation
  r.attempt_id, r.scope, r.audience, r.user_agent, r.ip_address, r.device_name = '', '', '', '', '', ''
  write(user_key, session_id, r)
  return reuse(r, true)
end

local scope, why, name = narrow(scope_requested, r.scope, scope_any, scope_own, scope_names, '')
if not scope then
  return { 'refused', 'scope', why, name }
end
local audience
audience, why, name = narrow_audience(audience_requested, r.audience, r.scope)
if not audience then
  return { 'refused', 'audience', why, name }
end
-- The access token is signed after this script. If that fails, the record has moved on without a token, and a retry after
-- the grace ends the session. This check prevents it, except for the old sessions that json_len counts too small.
if json_len(scope, audience) > max_claims_bytes then
  return { 'refused', 'token', 'large', '' }
end

local rotation, lost_rotations = 'replayed', 0
if generation >= current then
  rotation, lost_rotations = 'rotated', generation - current
  r.flags = lost_rotations > 0 and FAST_FORWARDED or 0
  r.generation = math.min(generation + 1, LAST_GENERATION)
  r.refresh_key, r.rotated, r.attempt_id = refresh_key, now, attempt_id
  r.idle_expires = math.min(now + idle_ttl, r.expires)
  r.user_agent = user_agent ~= '' and user_agent or r.user_agent
  r.ip_address = ip_address ~= '' and ip_address or r.ip_address
  r.device_name = device_name ~= '' and device_name or r.device_name
  write(user_key, session_id, r)
  redis.call('PEXPIREAT', user_key, r.idle_expires + expired_record_ttl, 'GT')
end
return { rotation, lost_rotations, r.generation, r.refresh_key, scope, audience, r.created, r.idle_expires, r.expires,
  now }
