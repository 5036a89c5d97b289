-- Writes one line among those of all members in one key.
-- KEYS: the key. ARGV: the line's name, its text, for how many ms the key is kept, and how many lines
-- it may have. Returns 1, or 0 where it has so many of other names already.
-- One key of lines, since a list of keys would need a command that users of before may not run.
local name = ARGV[1] .. ' '
local lines, most = {}, tonumber(ARGV[4])
for line in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^\n]+') do
  if string.sub(line, 1, #name) ~= name then lines[#lines + 1] = line end
end
if #lines >= most then return 0 end
lines[#lines + 1] = name .. ARGV[2]
redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'PX', ARGV[3])
return 1
