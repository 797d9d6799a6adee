-- Creates a stream; the same stream again is replaced.
-- KEYS: meta, parts, the sets in the order of the states, and the set of its directory
-- ARGV: state, its place among the sets, epoch, number of values, values of meta..., fields that are absent...
local found = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'node')
if found[1] and (found[1] ~= ARGV[1] or found[2] ~= ARGV[3]) then
  -- Only a master may refuse: what a replica has may be old, and a write that changes nothing stops it.
  redis.call('HDEL', KEYS[1], '')
  return found
end
local values = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], unpack(ARGV, 5, 4 + values))
if 4 + values < #ARGV then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 5 + values))
end
if not found[1] then
  redis.call('DEL', KEYS[2])
end
local id = redis.call('HGET', KEYS[1], 'id')
redis.call('SADD', KEYS[2 + tonumber(ARGV[2])], id)
redis.call('SADD', KEYS[#KEYS], id)
return 1
