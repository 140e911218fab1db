-- Remove an entry if it is a node's, and keep its followers for a while.
-- KEYS: the account's entries, the session's followers. ARGV: session, node, milliseconds.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current and string.match(current, '^(%S+) ') == ARGV[2] then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1
