-- sweep: the safety net, run by every gateway about once a second; one of them acts. Rings alarms, measures the load, trims what only grows.
-- KEYS     the three roots
-- ARGV[1]  how long this sweep excludes the next, ms   ARGV[2]  how long dead letters are kept, ms   ARGV[3]  most dead letters
-- returns  1 when it acted, 0 when another did
--@include record
--@include ending
--@include line
--@include requeue
--@include alarms
--@include upkeep
if not redis.call('SET', root .. 'sweeping', '1', 'NX', 'PX', ARGV[1]) then return 0 end -- guard: one gateway's turn
local keep, most = tonumber(ARGV[2]) or DEAD_LETTER_MS, tonumber(ARGV[3]) or MAX_DEAD_LETTERS
redis.call('HSET', LOAD, 'keep', keep) -- for every script that ends a job
redis.call('ZREMRANGEBYSCORE', root .. 'workers', '-inf', now)
adopt()
ring(500, 0)
measure()
trim_dead_letters(keep, most)
local tenant = redis.call('SRANDMEMBER', root .. 'tenants')
if tenant then trim_index(tenant) end
write_gathered()
settle_accounts()
return 1
