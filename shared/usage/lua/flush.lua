-- flush: add what one worker counted to the fleet's figures; a batch that was sent before changes nothing.
-- KEYS[1]  number of this worker's last batch   KEYS[2]  index: place -> last used, ms   KEYS[3]  when recording began, ms
-- KEYS[4]  and on, hashes of figures, one a place
-- ARGV[1]  number of this batch   ARGV[2]  life of the figures, ms
-- ARGV[3]  and on, for each hash: its place, msgpack of {ms since its last use, {field = increment}}
-- returns  1 when added, 0 when it was there already
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local number, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[1]) or 0) >= number then return 0 end
redis.call('SET', KEYS[1], number, 'PX', 3600000)
redis.call('SET', KEYS[3], now, 'NX')
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ttl)
for i = 4, #KEYS do
  local at = 3 + (i - 4) * 2
  local row = cmsgpack.unpack(ARGV[at + 1])
  redis.call('ZADD', KEYS[2], 'GT', now - row[1], ARGV[at])
  for field, by in pairs(row[2]) do redis.call('HINCRBY', KEYS[i], field, by) end
  redis.call('PEXPIRE', KEYS[i], ttl)
end
redis.call('PEXPIRE', KEYS[2], ttl)
return 1
