-- Add to a set of a session that is not there, for a while.
-- KEYS: the account's entries, the set. ARGV: session, milliseconds, members.
-- Returns whether that was done: not if the session is there.
if redis.call('HGET', KEYS[1], ARGV[1]) then
    return 0
end
redis.call('SADD', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
