-- Renews a node's lease, adds the cluster keys that it knows, and reads those of all nodes.
-- KEYS: the leases, the cluster keys, the counter of nodes that began to attend.
-- ARGV: node, its lease, duration in ms, a key to add if there are none, then the known keys.
-- Returns the time, whether the lease was alive, all leases (each prefixed with its expiry), all keys with their times,
-- and the counter, which may also rise when no node began to attend, but never misses one.
local function attends(blob)
    local read, lease = pcall(cmsgpack.unpack, blob)
    return read and type(lease) == 'table' and lease.attends ~= false
end
local before = redis.call('HGET', KEYS[1], ARGV[1])
local ends = before and tonumber(string.match(before, '^(%d+) '))
local alive = ends and ends > now
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[2])
local counted = redis.call('GET', KEYS[3])
-- If the counter was lost, continue from a number that it cannot have had.
local count = counted and #counted < 16 and tonumber(string.match(counted, '^%d+$')) or now
if attends(ARGV[2]) and not (alive and attends(string.match(before, '^%d+ (.*)$'))) then
    count = count + 1
end
count = string.format('%.0f', count)
if count ~= counted then
    redis.call('SET', KEYS[3], count)
end
for i = 5, #ARGV do
    redis.call('HSETNX', KEYS[2], ARGV[i], string.format('%.0f', now))
end
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('HSET', KEYS[2], ARGV[4], string.format('%.0f', now))
end
return {string.format('%.0f', now), alive and 1 or 0, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), count}
