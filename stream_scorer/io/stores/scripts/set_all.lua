-- Sets keys, all in one step. KEYS: the keys. ARGV: their values.
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i]) end
return #KEYS
