-- Reads items of a list, and its current position.
-- KEYS: the list's numbers, the list. ARGV: the offset above which to read (negative: the newest items), the maximum
-- number of items, an id for the epoch of a list that has none, the lifetime of that in ms, the maximum size in bytes,
-- which the first item, or the newest, may exceed.
-- Returns epoch, top, the first offset of the epoch, the previous epoch, the offset of the first item, the items.
local known = redis.call('HMGET', KEYS[1], 'epoch', 'start', 'top', 'before')
local epoch, start, top = known[1], tonumber(known[2] or ''), tonumber(known[3] or '')
if not (epoch and start and top) then
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
    redis.call('DEL', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[1], 'run', run, 'epoch', ARGV[3], 'start', 1, 'top', 0, 'before', '')
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return {ARGV[3], '0', '1', '', '1', {}}
end
local after, limit, room = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[5])
local length = redis.call('LLEN', KEYS[2])
local oldest = top - length + 1
local is_newest = after < 0
local first = math.max(is_newest and top - limit + 1 or after + 1, oldest)
local items = {}
-- Adds items in the order given, as long as there is room; returns whether there was room for all.
local function add(found, from, to, step)
    for i = from, to, step do
        room = room - #found[i]
        if room < 0 and #items > 0 then
            return false
        end
        items[#items + 1] = found[i]
    end
    return true
end
-- Few at a time: a list may hold much more than there is room for.
local from, to = first - oldest, math.min(first - oldest + limit, length) - 1
local step = 32
if not is_newest then
    for i = from, to, step do
        local found = redis.call('LRANGE', KEYS[2], i, math.min(i + step - 1, to))
        if not add(found, 1, #found, 1) then
            break
        end
    end
else
    for i = to, from, -step do
        local found = redis.call('LRANGE', KEYS[2], math.max(i - step + 1, from), i)
        if not add(found, #found, 1, -1) then
            break
        end
    end
    first = top - #items + 1
    for i = 1, math.floor(#items / 2) do
        items[i], items[#items - i + 1] = items[#items - i + 1], items[i]
    end
end
return {epoch, string.format('%.0f', top), string.format('%.0f', start), known[4] or '', string.format('%.0f', first), items}
