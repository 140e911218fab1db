-- Before each script that writes. ARGV: the latest time in milliseconds at which it may run; the script's own follow.
-- One that a server which stood still runs later must not undo what was done since its sender gave it up.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(table.remove(ARGV, 1)) then
    return redis.error_reply('EXPIRED ' .. string.format('%.0f', now))
end
