-- Write an entry that may be missing, in the place of none or of one of lower rank.
-- KEYS: the account's entries. ARGV: session, node, generation, sid.
-- Returns 1 or 0, and the entry that is there now.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current then
    local node, generation, sid = string.match(current, '^(%S+) (%d+) (%S+)$')
    local stored, own = tonumber(generation), tonumber(ARGV[3])
    if node == ARGV[2] and sid == ARGV[4] then
        if stored >= own then
            return {1, current}
        end
    elseif node then
        -- Not by the operator: that compares as the server's locale does.
        local higher = stored > own
        if stored == own then
            for i = 1, math.max(#node, #ARGV[2]) do
                local theirs, ours = string.byte(node, i) or 0, string.byte(ARGV[2], i) or 0
                if theirs ~= ours then
                    higher = theirs > ours
                    break
                end
            end
        end
        if higher then
            return {0, current}
        end
    end
end
local entry = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4]
redis.call('HSET', KEYS[1], ARGV[1], entry)
return {1, entry}
