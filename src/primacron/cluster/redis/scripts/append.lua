-- Appends items to lists and publishes them.
-- KEYS: for each, the list's numbers, the list, optionally a key that makes the append happen once. ARGV: an id for new
-- epochs, the command that publishes, the size in bytes above which an item is not published, the lifetime of the keys
-- in ms, then for each its options and the item. The options are, separated by spaces: whether there is a key (1 or 0),
-- the number of items to keep, their lifetime in ms, how much longer the numbers live in ms, the channel.
-- Returns, for each, 1 if it was appended or 0 if repeated, its epoch, its offset, the first offset of that epoch; or
-- -1 and the reason why nothing was done.
local id, publish, max_published, once_for = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')

local function append(numbers, list, once, count, lifetime, outlives, channel, item)
    if once then
        local known = redis.call('GET', once)
        if known then
            local epoch, offset, start = string.match(known, '^(%S+) (%d+) (%d+)$')
            if epoch then
                return {0, epoch, offset, start}
            end
        end
    end
    local known = redis.call('HMGET', numbers, 'run', 'epoch', 'start', 'top', 'renewed')
    local epoch, start = known[2], tonumber(known[3] or '')
    local top, renewed = tonumber(known[4] or ''), tonumber(known[5] or '')
    if not (epoch and start and top) then
        -- Without numbers the items cannot be identified.
        redis.call('DEL', numbers, list)
        epoch, top, renewed = false, 0, nil
    end
    if known[1] ~= run or not epoch then
        -- The server restarted or changed: the last items may be lost, and their numbers with them.
        redis.call('HSET', numbers, 'run', run, 'epoch', id, 'start', top + 1, 'before', epoch or '')
        epoch, start = id, top + 1
    end
    top = top + 1
    local length = redis.call('RPUSH', list, item)
    if length > count * 1.25 then
        redis.call('LTRIM', list, -count, -1)
    end
    redis.call('HSET', numbers, 'top', top)
    if length == 1 or not renewed or now - renewed > lifetime / 16 then
        local ends = math.ceil(lifetime * 17 / 16)
        redis.call('PEXPIRE', list, ends)
        redis.call('PEXPIRE', numbers, ends + outlives)
        redis.call('HSET', numbers, 'renewed', string.format('%.0f', now))
    end
    local offset, from = string.format('%.0f', top), string.format('%.0f', start)
    local where = epoch .. ' ' .. offset .. ' ' .. from
    local body = #item > max_published and where .. ' 0\n' or where .. ' 1\n' .. item
    local published = redis.pcall(publish, channel, body)
    if type(published) == 'table' and published.err then
        -- Both or neither.
        redis.call('LTRIM', list, 0, -2)
        redis.call('HSET', numbers, 'top', top - 1)
        return redis.error_reply(published.err)
    end
    if once then
        redis.call('SET', once, where, 'PX', once_for)
    end
    return {1, epoch, offset, from}
end

local results, key = {}, 1
for i = 5, #ARGV, 2 do
    local has_once, count, lifetime, outlives, channel = string.match(ARGV[i], '^(%d) (%d+) (%d+) (%d+) (.*)$')
    local once = has_once == '1' and KEYS[key + 2] or nil
    -- A list that cannot be written must not prevent the others.
    local done, result = pcall(append, KEYS[key], KEYS[key + 1], once, tonumber(count), tonumber(lifetime), tonumber(outlives), channel, ARGV[i + 1])
    if not done or result.err then
        result = {-1, type(result) == 'table' and result.err or tostring(result)}
    end
    results[#results + 1] = result
    key = key + (once and 3 or 2)
end
return results
