-- Remove an entry if it is a node's, and keep the session's sets for a while.
-- KEYS: the account's entries, then the session's sets. ARGV: session, node, milliseconds.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current and string.match(current, '^(%S+) ') == ARGV[2] then
    redis.call('HDEL', KEYS[1], ARGV[1])
    for i = 2, #KEYS do
        redis.call('PEXPIRE', KEYS[i], ARGV[3])
    end
end
return 1
