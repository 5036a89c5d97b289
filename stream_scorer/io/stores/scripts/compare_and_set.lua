-- Sets a key whose value is still the one that was read. KEYS: the key. ARGV: the value that was
-- read, '' for none, and the new one. Returns 1 where it was set.
local stored = redis.call('GET', KEYS[1]) or ''
if stored ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
