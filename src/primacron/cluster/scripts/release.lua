-- Remove an entry, and keep the session's sets for a while.
-- KEYS: the account's entries, then the session's sets. ARGV: session, the entry expected, milliseconds.
-- Returns whether it was there.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
for i = 2, #KEYS do
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 1
