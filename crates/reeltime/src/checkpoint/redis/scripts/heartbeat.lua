-- Says that a node is alive.
-- KEYS: node
-- ARGV: incarnation, incarnation that may be replaced, lease in ms, fields and values...
local held = redis.call('HGET', KEYS[1], 'incarnation')
if held and held ~= ARGV[1] and held ~= ARGV[2] then
  -- Only a master may refuse: what a replica has may be old, and a write that changes nothing stops it.
  redis.call('HDEL', KEYS[1], '')
  return redis.call('HGETALL', KEYS[1])
end
redis.call('HDEL', KEYS[1], 'left_at_ms')
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
