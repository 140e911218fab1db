-- Removes an entry, and lets the session's sets expire.
-- KEYS: the account's entries, then the session's sets. ARGV: session, the expected entry, the sets' expiry in ms.
-- Returns whether the entry was as expected.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
for i = 2, #KEYS do
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 1
