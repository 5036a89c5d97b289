-- Writes records of the shop's trend, each only where none of a higher offset is stored, and lists
-- their partitions.
-- KEYS: the list, then R record keys. ARGV: R lines of the list, then R records.
-- A record's next offset stands in its bytes 9 to 16, counted from 1 (core/trend_record.py). It is a
-- function of the events below that offset, so whoever has the higher one knows more.
-- Returns how many were written.
local records = #KEYS - 1
local listed = redis.call('GET', KEYS[1]) or ''
local before, written = #listed, 0
for i = 1, records do
  local record = ARGV[records + i]
  local stored = redis.call('GETRANGE', KEYS[1 + i], 8, 15)
  if #stored < 8 or struct.unpack('<i8', stored) <= struct.unpack('<i8', string.sub(record, 9, 16)) then
    redis.call('SET', KEYS[1 + i], record)
    written = written + 1
  end
  if not string.find('\n' .. listed, '\n' .. ARGV[i] .. '\n', 1, true) then
    listed = listed .. ARGV[i] .. '\n'
  end
end
if #listed > before then redis.call('SET', KEYS[1], listed) end
return written
