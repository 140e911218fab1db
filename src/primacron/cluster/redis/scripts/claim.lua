-- Registers a session.
-- KEYS: the account's entries, then the session's sets. ARGV: session, node, sid, 1 to replace another entry.
-- Returns the new entry ('' if refused), the previous entry ('' if none), the members of each set.
local before = redis.call('HGET', KEYS[1], ARGV[1])
-- A value that no node can have written is not an entry, and does not block the claim.
local stored = before and string.match(before, '^%S+ (%d+) %S+$')
stored = stored and #stored < 16 and tonumber(stored)
if stored and ARGV[4] == '0' then
    return {'', before, {}}
end
local generation = now
if stored and stored >= generation then
    generation = stored + 1
end
-- Reads before the first write, so that a claim is done in full or not at all.
local sets = {}
for i = 2, #KEYS do
    sets[i - 1] = redis.call('SMEMBERS', KEYS[i])
end
local entry = ARGV[2] .. ' ' .. string.format('%.0f', generation) .. ' ' .. ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], entry)
for i = 2, #KEYS do
    if #sets[i - 1] > 0 then
        redis.call('PERSIST', KEYS[i])
    end
end
return {entry, before or '', sets}
