-- Remove an entry, and keep its followers for a while.
-- KEYS: the account's entries, the session's followers. ARGV: session, the entry expected, milliseconds.
-- Returns whether it was there.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
