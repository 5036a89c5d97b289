-- Writes one line among those of all members in one key.
-- KEYS: the key, and the length of the namespace's list of erased customers. ARGV: the line's name,
-- its text, for how many ms the key is kept, how many lines it may have, and the length of the list
-- that the writer left out of the text. Returns 1, 0 where the key has so many lines of other names
-- already, or -1 where the list has another length now: then the text may hold somebody who was
-- erased meanwhile, and whoever erased her has looked through these lines already.
-- One key of lines, since a list of keys would need a command that users of before may not run.
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[5] then return -1 end
local name = ARGV[1] .. ' '
local lines, most = {}, tonumber(ARGV[4])
for line in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^\n]+') do
  if string.sub(line, 1, #name) ~= name then lines[#lines + 1] = line end
end
if #lines >= most then return 0 end
lines[#lines + 1] = name .. ARGV[2]
redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'PX', ARGV[3])
return 1
