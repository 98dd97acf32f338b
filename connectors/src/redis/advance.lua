-- Moves a sink's offset, where it is still what the sink thinks. Key: the sink's hash.
-- Arguments: run, offset as it was ('' for none), then pairs of field and value.
local held = redis.call('HMGET', KEYS[1], 'run', 'offset')
if ARGV[2] == '' then
  if held[1] then
    return 0
  end
elseif held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
