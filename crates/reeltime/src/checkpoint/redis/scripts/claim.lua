-- Gives a stream another owner.
-- KEYS: meta
-- ARGV: epoch, next epoch, node
local found = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'node')
if not found[1] or found[2] ~= ARGV[1] then
  -- Only a master may refuse: what a replica has may be old, and a write that changes nothing stops it.
  redis.call('HDEL', KEYS[1], '')
  return found[1] and found or {}
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'node', ARGV[3])
return 1
