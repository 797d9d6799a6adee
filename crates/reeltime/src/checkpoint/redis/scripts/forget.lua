-- Removes a stream and its parts.
-- KEYS: meta, parts, and all sets that it may be in
-- ARGV: epoch, id
local found = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'node')
if found[1] and found[2] ~= ARGV[1] then
  -- Only a master may refuse: what a replica has may be old, and a write that changes nothing stops it.
  redis.call('HDEL', KEYS[1], '')
  return found
end
redis.call('DEL', KEYS[1], KEYS[2])
for at = 3, #KEYS do
  redis.call('SREM', KEYS[at], ARGV[2])
end
return 1
