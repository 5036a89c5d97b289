-- Writes what one member says of itself among those of all members of the namespace.
-- KEYS: the members. ARGV: its id, its text ('' where it leaves), for how many ms a member that is
-- silent is kept, and how many members at most are kept.
-- One key, since a list of keys would need a command that users of before may not run; Redis's own
-- clock, since members' clocks may differ.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kept_ms, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('GET', KEYS[1])
local is_json, before = pcall(cjson.decode, stored or '{}')
local members, ages = {}, {}
if is_json and type(before) == 'table' then
  for id, member in pairs(before) do
    if type(member) == 'table' and tonumber(member.at) and id ~= ARGV[1] then
      local age = now - tonumber(member.at)
      if age < kept_ms then
        members[id] = member
        ages[#ages + 1] = {age, id}
      end
    end
  end
end
table.sort(ages, function(a, b) return a[1] < b[1] end)
for i = most, #ages do members[ages[i][2]] = nil end
if ARGV[2] ~= '' then members[ARGV[1]] = {at = now, said = ARGV[2]} end
redis.call('SET', KEYS[1], cjson.encode(members), 'PX', kept_ms)
return now
