-- Prepended to each script that writes. ARGV: the latest time in ms at which it may run; the script's own follow.
-- A stalled server that runs a script late must not undo what has been done since its sender gave up.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(table.remove(ARGV, 1)) then
    return redis.error_reply('EXPIRED ' .. string.format('%.0f', now))
end
