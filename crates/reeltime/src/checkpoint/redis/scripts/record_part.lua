-- Notes a part.
-- KEYS: meta, parts
-- ARGV: epoch, part number, part
local found = redis.call('HMGET', KEYS[1], 'state', 'epoch', 'node')
if not found[1] then
  return {}
end
if found[2] ~= ARGV[1] then
  return found
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
