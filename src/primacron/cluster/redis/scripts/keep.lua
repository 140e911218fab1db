-- Adds to a set of a session that is absent, until the set expires.
-- KEYS: the account's entries, the set. ARGV: session, expiry in ms, members.
-- Returns whether they were stored, which they are not while the session is present.
if redis.call('HGET', KEYS[1], ARGV[1]) then
    return 0
end
redis.call('SADD', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
