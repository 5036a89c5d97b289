-- Writes customers' records, each only where it was made from all that is stored, and where the
-- record that it was made from is still there.
-- KEYS: W watermark keys, the key of this owner's mark, then R record keys.
-- ARGV: W, time to live in ms (0: none), how much longer a record is kept in ms, 1 where the records
-- were made from ones that were loaded (0: from none that was stored), W least watermarks, the mark
-- that the call before this one left ('': no call came before), the mark to leave, R records, and
-- for each the sources of the record that it was made from, in 16 bytes each: topic, partition,
-- offset. The offsets of the new record say less: if Redis was set back when that record was loaded,
-- and forward again since, they are the highest, though events are missing. A record that was made
-- from one that is gone is refused, too: its customer was deleted since.
-- Returns the 0-based positions of the records that were refused; or, with nothing written, a
-- string where the store lost writes that were confirmed: REWOUND where a stored watermark is below
-- the least one, UNSAVED where the mark of the call before is gone, and with it what that call
-- wrote, or where this call comes late.
-- A record's layout: stream_scorer/core/features/state_codec.py. Its offsets start at byte 37,
-- counted from 1.
local watermarks, ttl_ms, longer_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local were_loaded = ARGV[4] == '1'
for i = 1, watermarks do
  local stored = tonumber(redis.call('GET', KEYS[i]) or '-1') or error('NO_OFFSET ' .. KEYS[i])
  if stored < tonumber(ARGV[4 + i]) then return 'REWOUND' end
end
local mark_key = KEYS[watermarks + 1]
local before, mark = ARGV[5 + watermarks], ARGV[6 + watermarks]
local left = redis.call('GET', mark_key)
if before ~= '' and left ~= before then return 'UNSAVED' end
-- Numbers ascend: this call was given up on, and is late. With its mark the ones that were made in
-- its place would look as if they were lost.
if left and tonumber(left) >= tonumber(mark) then return 'UNSAVED' end

local function offset_in(made_from, topic, partition)
  for at = 1, #made_from, 16 do
    local t, p, o = struct.unpack('<I4I4i8', made_from, at)
    if t == topic and p == partition then return o end
  end
  return -1
end

local function is_behind(record, made_from, key)
  -- The header and four sources, as most records have no more; a second read gets the others.
  local stored = redis.call('GETRANGE', key, 0, 99)
  if stored == '' then return were_loaded and made_from ~= '' end
  if string.sub(stored, 21, 28) ~= string.sub(record, 21, 28) then
    error('FINGERPRINT ' .. key)
  end
  local sources = struct.unpack('<I4', stored, 5)
  if sources > 4 then stored = redis.call('GETRANGE', key, 0, 35 + 16 * sources) end
  for i = 0, sources - 1 do
    local t, p, o = struct.unpack('<I4I4i8', stored, 37 + 16 * i)
    if offset_in(made_from, t, p) < o then return true end
  end
  return false
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Never before the fold has forgotten the customer: measured from the newest event in the record.
-- Where that time is over already, as in a replay of old events, measured from now.
local function left_ms(record)
  local newest_ms = struct.unpack('<i8', record, 29)
  return string.format('%.0f', math.max(newest_ms + ttl_ms - now_ms, 0) + longer_ms)
end

local refused, records = {}, #KEYS - watermarks - 1
for i = watermarks + 2, #KEYS do
  local record = ARGV[5 + i]
  if is_behind(record, ARGV[5 + i + records], KEYS[i]) then
    refused[#refused + 1] = i - watermarks - 2
  -- From version 3 on a record has the boundary of an erasure, which stays in force for ever.
  elseif ttl_ms > 0 and string.byte(record, 1) < 3 then
    redis.call('SET', KEYS[i], record, 'PX', left_ms(record))
  else
    redis.call('SET', KEYS[i], record)
  end
end
-- Written last: where the mark is still there, so is everything that was written before it.
redis.call('SET', mark_key, mark, 'PX', 600000)
return refused
