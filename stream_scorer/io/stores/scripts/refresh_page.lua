-- One page of SCAN, and of its customers those whose newest event came from certain partitions.
-- ARGV: the cursor, the pattern of record keys, how many keys to look at, the topic's hash as in
-- records, the partitions.
-- Returns the next cursor, how many customers the page has, the keys of those customers, and the
-- keys of customers whose record has no event from the topic, as after a replay of event files.
-- Here, because a record has hundreds of bytes and its sources a few: each member looks through all
-- customers. A record's layout: stream_scorer/core/features/state_codec.py.
local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local topic, wanted = tonumber(ARGV[4]), {}
for i = 5, #ARGV do wanted[tonumber(ARGV[i])] = true end
local mine, foreign = {}, {}
for _, key in ipairs(page[2]) do
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
      foreign[#foreign + 1] = key
    elseif wanted[partition] then
      mine[#mine + 1] = key
    end
  end
end
return {page[1], #page[2], mine, foreign}
