-- Sets the watermarks of partitions that are new to the store, unless the store went back
-- meanwhile. Such a partition also keeps its start, for later readers.
-- KEYS: W watermark keys, W keys of the starts.
-- ARGV: W starts, W least values that must be stored (0 also where none is).
-- Returns 1 and the W stored values; or, with nothing written, 0 and the W stored values ('' for
-- none) where one is below its least value or its start: what lies between would never be read.
local watermarks = #KEYS / 2
local answer, fits = {1}, true
for i = 1, watermarks do
  local stored = redis.call('GET', KEYS[i])
  local least = tonumber(ARGV[watermarks + i])
  if stored then
    local offset = tonumber(stored) or error('NO_OFFSET ' .. KEYS[i])
    fits = fits and offset >= least and offset >= tonumber(ARGV[i])
  else
    fits = fits and least <= 0
  end
  answer[1 + i] = stored or ''
end
if not fits then
  answer[1] = 0
  return answer
end
for i = 1, watermarks do
  if answer[1 + i] == '' then
    redis.call('SET', KEYS[watermarks + i], ARGV[i])
    redis.call('SET', KEYS[i], ARGV[i])
    answer[1 + i] = ARGV[i]
  end
end
return answer
