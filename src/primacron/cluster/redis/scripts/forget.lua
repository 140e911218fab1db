-- Removes a lease that has expired.
-- KEYS: the leases. ARGV: node.
local lease = redis.call('HGET', KEYS[1], ARGV[1])
local ends = lease and tonumber(string.match(lease, '^(%d+) '))
if ends and ends <= now then
    redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
