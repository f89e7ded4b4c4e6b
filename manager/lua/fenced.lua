-- fenced: write one key for the leader of a term, unless a later term has begun.
-- KEYS[1]  epoch of the latest term   KEYS[2]  key to write
-- ARGV[1]  epoch of the writer's term   ARGV[2]  command   ARGV[3]  and on, what it takes after the key
-- returns  {1, the command's reply}; {0} when the term is over
if tonumber(redis.call('GET', KEYS[1]) or 0) ~= tonumber(ARGV[1]) then return {0} end -- guard: the latest term only
return {1, redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))}
