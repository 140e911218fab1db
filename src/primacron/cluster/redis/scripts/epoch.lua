-- Identifies the epoch of a primary, which is one continuous life of its data.
-- KEYS: the primary's epoch. ARGV: a random id for a new epoch.
-- Returns the epoch, its age and the time (ms). A new one begins when the data is lost or another server has it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local info = redis.call('INFO', 'server')
if ARGV[2] == '1' and string.find(info, 'redis_mode:cluster', 1, true) then
    -- It would take what happens to fall into its own slots, and refuse the rest.
    return redis.error_reply('CROSSSLOT one server of a Redis Cluster')
end
local run = string.match(info, 'run_id:(%w+)')
local stored = redis.call('GET', KEYS[1])
if stored then
    local random, began = string.match(stored, '^(%S+) ' .. run .. ' (%d+)$')
    if random then
        return {random, string.format('%.0f', now - began), string.format('%.0f', now)}
    end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. run .. ' ' .. string.format('%.0f', now))
return {ARGV[1], '0', string.format('%.0f', now)}
