-- Ends the lease of a node, and says so.
-- KEYS: node
-- ARGV: incarnation, when
local held = redis.call('HGET', KEYS[1], 'incarnation')
if held == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'left_at_ms', ARGV[2])
else
  redis.call('HDEL', KEYS[1], '')
end
return 1
