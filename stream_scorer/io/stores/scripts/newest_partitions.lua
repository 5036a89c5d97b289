-- Of some customers those whose newest event came from certain partitions.
-- KEYS: records. ARGV: the topic's hash as in records, the partitions.
-- Returns the 0-based positions of those customers, and those of customers whose record has no event
-- from the topic, as after a replay of event files.
-- Here, because a record has hundreds of bytes and its sources a few: each member looks through all
-- customers. A record's layout: stream_scorer/core/features/state_codec.py.
local topic, wanted = tonumber(ARGV[1]), {}
for i = 2, #ARGV do wanted[tonumber(ARGV[i])] = true end
local mine, foreign = {}, {}
for at, key in ipairs(KEYS) do
  local stored = redis.call('GETRANGE', key, 0, 99)
  if #stored >= 36 then
    local sources = struct.unpack('<I4', stored, 5)
    if sources > 4 then stored = redis.call('GETRANGE', key, 0, 35 + 16 * sources) end
    local newest, partition = -1, nil
    for i = 0, sources - 1 do
      local t, p, o = struct.unpack('<I4I4i8', stored, 37 + 16 * i)
      if t == topic and o >= newest then newest, partition = o, p end
    end
    if partition == nil then
      foreign[#foreign + 1] = at - 1
    elseif wanted[partition] then
      mine[#mine + 1] = at - 1
    end
  end
end
return {mine, foreign}
