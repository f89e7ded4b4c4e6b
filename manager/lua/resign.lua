-- resign: give the leadership back before its lease ends.
-- KEYS[1]  lease   ARGV[1]  token
-- returns  1 when it was ours
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end -- guard: only our own
return redis.call('DEL', KEYS[1])
