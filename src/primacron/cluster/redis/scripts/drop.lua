-- Removes an entry if it belongs to a node, and lets the session's sets expire.
-- KEYS: the account's entries, then the session's sets. ARGV: session, node, the sets' expiry in ms.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current and string.match(current, '^(%S+) ') == ARGV[2] then
    redis.call('HDEL', KEYS[1], ARGV[1])
    for i = 2, #KEYS do
        redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
end
return 1
