-- Replaces one exact entry with another.
-- KEYS: the account's entries. ARGV: session, the expected entry, the new one.
-- Returns 1 if done, 0 if there is another entry, -1 if there is none; and the current entry.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current then
    return {-1, ''}
end
if current ~= ARGV[2] then
    return {0, current}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return {1, ARGV[3]}
