-- Moves watermarks forward once the records that they cover are written.
-- KEYS: W watermark keys, W keys of leader epochs, then the key of this owner's mark.
-- ARGV: W least values that must be stored, W new ones, W leader epochs ('': not known), the mark
-- of the last save ('': nothing was saved).
-- Returns OK; or, with nothing written, REWOUND where a stored watermark is below its least value,
-- UNSAVED where the mark is gone, and with it what was saved before it.
-- An epoch is kept with its watermark, so that it counts for no other: where an earlier release
-- moves the watermark later, it leaves the epoch as it is.
local watermarks = (#KEYS - 1) / 2
for i = 1, watermarks do
  local stored = tonumber(redis.call('GET', KEYS[i]) or '-1') or error('NO_OFFSET ' .. KEYS[i])
  if stored < tonumber(ARGV[i]) then return 'REWOUND' end
end
local mark = ARGV[3 * watermarks + 1]
if mark ~= '' and redis.call('GET', KEYS[#KEYS]) ~= mark then return 'UNSAVED' end
for i = 1, watermarks do
  local stored = tonumber(redis.call('GET', KEYS[i]) or '-1')
  local new, epoch = ARGV[watermarks + i], ARGV[2 * watermarks + i]
  if stored < tonumber(new) then
    redis.call('SET', KEYS[i], new)
    if epoch ~= '' then redis.call('SET', KEYS[watermarks + i], new .. ' ' .. epoch) end
  end
end
return 'OK'
