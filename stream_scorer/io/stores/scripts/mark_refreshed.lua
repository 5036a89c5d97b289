-- Notes what was published of customers by a refresh, where they are still known.
-- KEYS: R record keys, then the R keys of their marks.
-- ARGV: R marks, for how many ms each is kept ('': for ever), then the boundary of an erasure that
-- each record had from which was scored, in 8 bytes, '' for none.
-- Returns the 0-based positions of customers who were erased since: nothing of before is noted.
-- A record's layout: stream_scorer/core/features/state_codec.py. From version 3 on its first source
-- is the boundary.
local customers, erased = #KEYS / 2, {}
for i = 1, customers do
  local head = redis.call('GETRANGE', KEYS[i], 0, 51)
  local boundary = ''
  if head ~= '' and string.byte(head, 1) >= 3 then boundary = string.sub(head, 45, 52) end
  if boundary ~= ARGV[2 * customers + i] then
    if boundary ~= '' then erased[#erased + 1] = i - 1 end
  elseif head ~= '' then
    local kept_ms = ARGV[customers + i]
    if kept_ms == '' then
      redis.call('SET', KEYS[customers + i], ARGV[i])
    else
      redis.call('SET', KEYS[customers + i], ARGV[i], 'PX', kept_ms)
    end
  end
end
return erased
