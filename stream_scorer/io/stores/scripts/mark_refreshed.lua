-- Notes what was published of customers by a refresh, where they are still known.
-- KEYS: R record keys, then the R keys of their marks.
-- ARGV: R marks, then for how many ms each is kept ('': for ever).
local customers = #KEYS / 2
for i = 1, customers do
  if redis.call('GETRANGE', KEYS[i], 0, 0) ~= '' then
    local kept_ms = ARGV[customers + i]
    if kept_ms == '' then
      redis.call('SET', KEYS[customers + i], ARGV[i])
    else
      redis.call('SET', KEYS[customers + i], ARGV[i], 'PX', kept_ms)
    end
  end
end
return customers
