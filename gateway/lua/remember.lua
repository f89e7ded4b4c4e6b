-- remember: add one exchange to a conversation; what no longer fits goes, the oldest first.
-- KEYS[1]  zset, the tenant's conversations -> when each was last added to (ms)
-- KEYS[2]  root of the conversations' own lists; both carry the shard's hash tag
-- ARGV[1]  conversation   ARGV[2]  exchange   ARGV[3]  life, ms   ARGV[4]  most exchanges   ARGV[5]  their most bytes
-- ARGV[6]  most conversations of the tenant
-- returns  exchanges remembered now; 0 for one that cannot fit
local name, exchange, life = ARGV[1], ARGV[2], tonumber(ARGV[3])
local most, most_bytes, most_talks = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if #exchange > most_bytes then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local list = KEYS[2] .. name

-- The same exchange comes twice when a call was repeated under its Idempotency-Key.
if not redis.call('LPOS', list, exchange) then redis.call('RPUSH', list, exchange) end
local kept, bytes = 0, 0
for _, one in ipairs(redis.call('LRANGE', list, -most, -1)) do
  kept, bytes = kept + 1, bytes + #one
end
while bytes > most_bytes do
  bytes = bytes - #redis.call('LINDEX', list, -kept)
  kept = kept - 1
end
redis.call('LTRIM', list, -kept, -1)
redis.call('PEXPIRE', list, life)

redis.call('ZADD', KEYS[1], now, name)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - life)
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, -most_talks - 1)) do
  redis.call('DEL', KEYS[2] .. old)
  redis.call('ZREM', KEYS[1], old)
end
redis.call('PEXPIRE', KEYS[1], life)
return kept
