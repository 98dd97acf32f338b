-- Replaces a window's hash, unless what is stored is newer; 1 where it did. The same version holds the same, or what was refused of it. Keys: the hash, its version.
-- Arguments: run, version, seconds to live, dimensions whose keys are lower bounds, then pairs of
-- a field prefix and its metrics, separated by spaces.
local held = redis.call('GET', KEYS[2])
if held then
  local run, version = string.match(held, '^(%x+) (%d+)$')
  if run == ARGV[1] and tonumber(version) > tonumber(ARGV[2]) then
    return 0
  end
end
redis.call('DEL', KEYS[1])
local names = {'impressions', 'clicks', 'conversions', 'cost_micros', 'revenue_micros', 'ctr'}
local fields = {}
if ARGV[4] ~= '' then
  fields = {'lower_bound', ARGV[4]}
end
for i = 5, #ARGV, 2 do
  local n = 0
  for value in string.gmatch(ARGV[i + 1], '%S+') do
    n = n + 1
    fields[#fields + 1] = ARGV[i] .. names[n]
    fields[#fields + 1] = value
  end
  -- Lua passes only some thousand arguments at once.
  if #fields > 4000 then
    redis.call('HSET', KEYS[1], unpack(fields))
    fields = {}
  end
end
if #fields > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2], 'EX', ARGV[3])
return 1
