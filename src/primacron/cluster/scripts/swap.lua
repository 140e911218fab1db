-- Put an entry in the place of exactly another one.
-- KEYS: the account's entries. ARGV: session, the entry expected, the new one.
-- Returns 1 if done, 0 if another entry is there, -1 if none is; and the entry that is there now.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current then
    return {-1, ''}
end
if current ~= ARGV[2] then
    return {0, current}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return {1, ARGV[3]}
