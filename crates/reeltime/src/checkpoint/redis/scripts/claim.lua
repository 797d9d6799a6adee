-- Gives a stream another owner.
-- KEYS: meta
-- ARGV: epoch, next epoch, node
local found = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'node')
if not found[1] then
  return {}
end
if found[2] ~= ARGV[1] then
  return found
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'node', ARGV[3])
return 1
