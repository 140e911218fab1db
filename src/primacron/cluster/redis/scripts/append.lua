-- Appends an item to a list and publishes it.
-- KEYS: the list's numbers, the list, optionally a key that makes the append happen once. ARGV: the item, the number of
-- items to keep, their lifetime in ms, how much longer the numbers live in ms, an id for a new epoch, the command that
-- publishes, the channel, the size in bytes above which an item is not published, the lifetime of the key in ms.
-- Returns 1 if it was appended or 0 if repeated, its epoch, its offset, the first offset of that epoch.
if KEYS[3] then
    local known = redis.call('GET', KEYS[3])
    if known then
        local epoch, offset, start = string.match(known, '^(%S+) (%d+) (%d+)$')
        if epoch then
            return {0, epoch, offset, start}
        end
    end
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local known = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'start', 'top', 'renewed')
local epoch, start, top, renewed = known[2], tonumber(known[3] or ''), tonumber(known[4] or ''), tonumber(known[5] or '')
if not (epoch and start and top) then
    -- Without numbers the items cannot be identified.
    redis.call('DEL', KEYS[1], KEYS[2])
    epoch, top, renewed = false, 0, nil
end
if known[1] ~= run or not epoch then
    -- The server restarted or changed: the last items may be lost, and their numbers with them.
    redis.call('HSET', KEYS[1], 'run', run, 'epoch', ARGV[5], 'start', top + 1, 'before', epoch or '')
    epoch, start = ARGV[5], top + 1
end
top = top + 1
local length = redis.call('RPUSH', KEYS[2], ARGV[1])
if length > ARGV[2] * 1.25 then
    redis.call('LTRIM', KEYS[2], -ARGV[2], -1)
end
redis.call('HSET', KEYS[1], 'top', top)
if length == 1 or not renewed or now - renewed > ARGV[3] / 16 then
    local ends = math.ceil(ARGV[3] * 17 / 16)
    redis.call('PEXPIRE', KEYS[2], ends)
    redis.call('PEXPIRE', KEYS[1], ends + ARGV[4])
    redis.call('HSET', KEYS[1], 'renewed', string.format('%.0f', now))
end
local where = epoch .. ' ' .. string.format('%.0f', top) .. ' ' .. string.format('%.0f', start)
if KEYS[3] then
    redis.call('SET', KEYS[3], where, 'PX', ARGV[9])
end
if #ARGV[1] > tonumber(ARGV[8]) then
    redis.call(ARGV[6], ARGV[7], where .. ' 0\n')
else
    redis.call(ARGV[6], ARGV[7], where .. ' 1\n' .. ARGV[1])
end
return {1, epoch, string.format('%.0f', top), string.format('%.0f', start)}
