-- keep_answer: store one answer under its request's digest; the oldest go until all fit.
-- KEYS[1]  zset, digest -> when it was stored (ms)
-- KEYS[2]  hash, digest -> bytes; field '' has their sum
-- KEYS[3]  root of the answers' own keys; all three carry the shard's hash tag
-- ARGV[1]  digest   ARGV[2]  answer   ARGV[3]  life, ms   ARGV[4]  most bytes of all answers   ARGV[5]  most answers
-- returns  1, or 0 for an answer that cannot fit
local digest, answer, life, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local most_answers = tonumber(ARGV[5])
if #answer > most then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function drop(old)
  redis.call('DEL', KEYS[3] .. old)
  redis.call('ZREM', KEYS[1], old)
  local size = redis.call('HGET', KEYS[2], old)
  if size then
    redis.call('HDEL', KEYS[2], old)
    redis.call('HINCRBY', KEYS[2], '', -size)
  end
end

for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, now - life, 'BYSCORE', 'LIMIT', 0, 100)) do drop(old) end
drop(digest)
while (tonumber(redis.call('HGET', KEYS[2], '')) or 0) + #answer > most
  or redis.call('ZCARD', KEYS[1]) >= most_answers do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  if not oldest then -- the index was lost, so its sum means nothing
    redis.call('DEL', KEYS[2])
    break
  end
  drop(oldest)
end
redis.call('SET', KEYS[3] .. digest, answer, 'PX', life)
redis.call('ZADD', KEYS[1], now, digest)
redis.call('HSET', KEYS[2], digest, #answer)
redis.call('HINCRBY', KEYS[2], '', #answer)
redis.call('PEXPIRE', KEYS[1], life)
redis.call('PEXPIRE', KEYS[2], life)
return 1
