-- Returns the calls that the user of this connection may not make. Each argument is one call, its words separated by blanks.
local refused = {}
for _, call in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(call, '%S+') do
    words[#words + 1] = word
  end
  -- A server without this function or this command has no rule that refuses it.
  local checked, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if checked and not allowed then
    refused[#refused + 1] = call
  end
end
return refused
