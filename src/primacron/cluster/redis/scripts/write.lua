-- Runs one command that writes.
-- KEYS: its key. ARGV: its name, the arguments after the key.
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
