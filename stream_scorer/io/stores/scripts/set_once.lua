-- Sets a key where it is new. KEYS: the key. ARGV: its value. Returns the value that is stored.
-- One script, so that a failover can't come between the question and the answer.
local stored = redis.call('GET', KEYS[1])
if stored then return stored end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
