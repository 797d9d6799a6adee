-- Gives an object back.
-- KEYS: objects
-- ARGV: object, stream
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.sub(held, 1, 36) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HDEL', KEYS[1], '')
end
return 1
