-- Renew a node's lease, add the cluster keys that it knows, and read those of all.
-- KEYS: the leases, the cluster keys. ARGV: node, what it says of itself, milliseconds, a key for when there is none, then keys.
-- Returns the time, whether the lease was alive, all leases (each begins with its end), all keys with their times.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('HGET', KEYS[1], ARGV[1])
local ends = before and tonumber(string.match(before, '^(%d+) '))
local alive = ends and ends > now
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[2])
for i = 5, #ARGV do
    redis.call('HSETNX', KEYS[2], ARGV[i], string.format('%.0f', now))
end
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('HSET', KEYS[2], ARGV[4], string.format('%.0f', now))
end
return {string.format('%.0f', now), alive and 1 or 0, redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
