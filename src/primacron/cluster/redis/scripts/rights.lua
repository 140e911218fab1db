-- Tries the commands that servers use, on keys of its own that expire right away.
-- KEYS: a string, a hash, a set, a list. Returns the name of each command that failed, and why.
local failed = {}
local function try(name, ...)
    local result = redis.pcall(name, ...)
    if type(result) == 'table' and result.err then
        failed[#failed + 1] = {name, result.err}
    end
end

try('time')
try('info', 'server')
try('set', KEYS[1], 'x', 'PX', 1)
try('get', KEYS[1])
try('exists', KEYS[2])
try('hset', KEYS[2], 'a', 'x')
try('hsetnx', KEYS[2], 'a', 'x')
try('hget', KEYS[2], 'a')
try('hmget', KEYS[2], 'a')
try('hgetall', KEYS[2])
try('hdel', KEYS[2], 'a')
try('sadd', KEYS[3], 'a')
try('scard', KEYS[3])
try('smembers', KEYS[3])
try('sscan', KEYS[3], 0)
try('persist', KEYS[3])
try('srem', KEYS[3], 'a')
try('rpush', KEYS[4], 'a', 'b')
try('ltrim', KEYS[4], -1, -1)
try('llen', KEYS[4])
try('lrange', KEYS[4], 0, -1)
try('del', KEYS[4])
for _, key in ipairs(KEYS) do
    try('pexpire', key, 1)
end
return failed
