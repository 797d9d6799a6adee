-- Replaces meta and moves the stream to its state.
-- KEYS: meta, and the sets in the order of the states
-- ARGV: state from, place of the new state among the sets, epoch, number of values, values of meta..., fields that are absent...
local found = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'node')
local values = tonumber(ARGV[4])
if found[1] ~= ARGV[1] or found[2] ~= ARGV[3] then
  -- Only a master may refuse: what a replica has may be old, and a write that changes nothing stops it.
  redis.call('HDEL', KEYS[1], '')
  if not found[1] then
    return {}
  end
  -- An answer that got lost: the first time did it.
  for at = 5, 4 + values, 2 do
    if redis.call('HGET', KEYS[1], ARGV[at]) ~= ARGV[at + 1] then
      return found
    end
  end
  if redis.call('HLEN', KEYS[1]) * 2 ~= values then
    return found
  end
  return 1
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5, 4 + values))
if 4 + values < #ARGV then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 5 + values))
end
local id = redis.call('HGET', KEYS[1], 'id')
for at = 2, #KEYS do
  if at == 1 + tonumber(ARGV[2]) then
    redis.call('SADD', KEYS[at], id)
  else
    redis.call('SREM', KEYS[at], id)
  end
end
return 1
