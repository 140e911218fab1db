-- Register a session.
-- KEYS: the account's entries, the session's followers. ARGV: session, node, sid, 1 to replace another entry.
-- Returns the new entry (or an empty text if refused), the entry before (or an empty text), the followers.
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before and ARGV[4] == '0' then
    return {'', before, {}}
end
local time = redis.call('TIME')
local generation = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = before and tonumber(string.match(before, '^%S+ (%d+) '))
if stored and stored >= generation then
    generation = stored + 1
end
local entry = ARGV[2] .. ' ' .. string.format('%.0f', generation) .. ' ' .. ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], entry)
local followers = redis.call('SMEMBERS', KEYS[2])
if #followers > 0 then
    redis.call('PERSIST', KEYS[2])
end
return {entry, before or '', followers}
