-- Writes another text in one line of a key, where the line is still as it was read.
-- KEYS: the key. ARGV: the line's name, its text as it was read, and the new text. When the key
-- expires stays as it is. Returns 1, or 0 where another has written the line since.
local old, new = ARGV[1] .. ' ' .. ARGV[2], ARGV[1] .. ' ' .. ARGV[3]
local lines, found = {}, 0
for line in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^\n]+') do
  if line == old then line, found = new, 1 end
  lines[#lines + 1] = line
end
if found == 1 then redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'KEEPTTL') end
return found
