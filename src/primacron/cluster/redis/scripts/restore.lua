-- Writes entries that may be missing, each replacing none or one of lower rank.
-- KEYS: for each, the account's entries. ARGV: for each, session, node, generation, sid.
-- Returns, for each, 1 or 0, the current entry, and the entry of another node or connection that was replaced, or '';
-- or -1 and the reason why nothing was done.
local function restore(key, session, own_node, own_generation, own_sid)
    local current = redis.call('HGET', key, session)
    local replaced = current
    if current then
        local node, generation, sid = string.match(current, '^(%S+) (%d+) (%S+)$')
        if generation and #generation > 15 then
            node = nil -- cannot have been written by a node
        end
        local stored, own = tonumber(generation), tonumber(own_generation)
        if node == own_node and sid == own_sid then
            if stored >= own then
                return {1, current, ''}
            end
            replaced = ''
        elseif node then
            -- Byte by byte: the < operator compares by the server's locale.
            local higher = stored > own
            if stored == own then
                for i = 1, math.max(#node, #own_node) do
                    local theirs, ours = string.byte(node, i) or 0, string.byte(own_node, i) or 0
                    if theirs ~= ours then
                        higher = theirs > ours
                        break
                    end
                end
            end
            if higher then
                return {0, current, ''}
            end
        end
    end
    local entry = own_node .. ' ' .. own_generation .. ' ' .. own_sid
    redis.call('HSET', key, session, entry)
    return {1, entry, replaced or ''}
end

local results = {}
for i, key in ipairs(KEYS) do
    -- One that cannot be written must not prevent the others.
    local done, result = pcall(restore, key, unpack(ARGV, 4 * i - 3, 4 * i))
    if not done then
        result = {-1, type(result) == 'table' and result.err or tostring(result)}
    end
    results[i] = result
end
return results
