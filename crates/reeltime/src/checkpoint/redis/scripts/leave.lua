-- Ends the lease of a node.
-- KEYS: node
-- ARGV: incarnation
if redis.call('HGET', KEYS[1], 'incarnation') == ARGV[1] then
  redis.call('DEL', KEYS[1])
else
  redis.call('HDEL', KEYS[1], '')
end
return 1
