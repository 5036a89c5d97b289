-- Erases customers: their records are replaced by ones that hold the boundary alone, what a refresh
-- noted of them goes, and they are listed.
-- KEYS: the list, the length of the list, R record keys, then R keys of what refreshes noted.
-- ARGV: the fingerprint of the declaration in 8 bytes, R boundaries in ms since 1970 UTC, R customer
-- ids as JSON.
-- The offsets of a record stay, so that no event is applied by a redelivery; core/features/
-- erasure.py says what the boundary does. It is never before the newest event that is stored, nor
-- before an earlier boundary. All in one step: whoever has the list has the records.
-- Returns, for each customer, the boundary, and the length and the head of what was stored ('' for
-- nothing), up to the end of its sources.
local records = (#KEYS - 2) / 2
local fingerprint, never = ARGV[1], string.rep('\0', 7) .. '\128'
local boundary_source = '\0\0\0\0\255\255\255\255'

-- What is stored of a customer, checked: its head, its other sources, and the least boundary.
local function read(key)
  local stored = redis.call('GET', key) or ''
  if stored == '' then return 0, '', {}, -1 end
  if string.sub(stored, 21, 28) ~= fingerprint then error('FINGERPRINT ' .. key) end
  local sources, least, kept = struct.unpack('<I4', stored, 5), -1, {}
  if string.sub(stored, 29, 36) ~= never then least = struct.unpack('<i8', stored, 29) end
  for at = 37, 36 + 16 * sources, 16 do
    if string.sub(stored, at, at + 7) == boundary_source then
      least = math.max(least, struct.unpack('<i8', stored, at + 8))
    else
      kept[#kept + 1] = string.sub(stored, at, at + 15)
    end
  end
  return #stored, string.sub(stored, 1, 36 + 16 * sources), kept, least
end

local found = {}
-- All are read before anything is written: an error must leave no half of the request behind. Nor
-- may one that a write meets, so the first is one that nothing depends on, and that some users of
-- Redis may not do.
for i = 1, records do
  local length, head, kept, least = read(KEYS[2 + i])
  found[i] = {length, head, kept, math.max(least, tonumber(ARGV[1 + i]))}
end
for i = 1, records do redis.call('DEL', KEYS[2 + records + i]) end
-- Joined once at the end: to add each line to a list of some megabytes would copy it each time.
local lines, answer = {redis.call('GET', KEYS[1]) or ''}, {}
for i = 1, records do
  local length, head, sources, boundary = unpack(found[i])
  -- First, where a fold that begins with the boundary has it, too.
  table.insert(sources, 1, boundary_source .. struct.pack('<i8', boundary))
  local record = struct.pack('<I4I4I4I4I4', 3, #sources, 0, 0, 0) .. fingerprint .. never
  redis.call('SET', KEYS[2 + i], record .. table.concat(sources))
  local written = string.format('%.0f', boundary)
  lines[i + 1] = '[' .. written .. ',' .. ARGV[1 + records + i] .. ']\n'
  answer[i] = {written, length, head}
end
local listed = table.concat(lines)
redis.call('SET', KEYS[1], listed)
redis.call('SET', KEYS[2], #listed)
return answer
