-- Gives an object to a stream.
-- KEYS: objects
-- ARGV: object, stream and node, those in whose place if they have it
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held ~= ARGV[3] and string.sub(held, 1, 36) ~= string.sub(ARGV[2], 1, 36) then
  -- Only a master may refuse: what a replica has may be old, and a write that changes nothing stops it.
  redis.call('HDEL', KEYS[1], '')
  return held
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
