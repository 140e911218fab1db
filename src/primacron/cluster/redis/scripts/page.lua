-- Reads items of a list, and its current position.
-- KEYS: the list's numbers, the list. ARGV: the offset above which to read (negative: the newest items), the maximum
-- number of items, an id for the epoch of a list that has none, the lifetime of that in ms.
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
local length = redis.call('LLEN', KEYS[2])
local oldest = top - length + 1
local first = tonumber(ARGV[1]) + 1
if first <= 0 then
    first = top - ARGV[2] + 1
end
if first < oldest then
    first = oldest
end
local from = first - oldest
local items = redis.call('LRANGE', KEYS[2], from, from + ARGV[2] - 1)
return {epoch, string.format('%.0f', top), string.format('%.0f', start), known[4] or '', string.format('%.0f', first), items}
