-- lead: take the leadership if it is free, keep it if it is ours.
-- KEYS[1]  lease, hash with a TTL: token, name, epoch   KEYS[2]  epoch of the latest term
-- ARGV[1]  token   ARGV[2]  name   ARGV[3]  lease, ms
-- returns  the epoch of our term; 0 when somebody else leads
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return 0 end -- guard: one leader
if not token then
  -- Not just the next number: a Redis that lost its data must not count the same terms again.
  local clock = redis.call('TIME')
  local last = tonumber(redis.call('GET', KEYS[2]) or 0)
  local epoch = string.format('%.0f', math.max(last + 1, clock[1] * 1000 + math.floor(clock[2] / 1000)))
  redis.call('SET', KEYS[2], epoch)
  redis.call('HSET', KEYS[1], 'token', ARGV[1], 'name', ARGV[2], 'epoch', epoch)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return tonumber(redis.call('HGET', KEYS[1], 'epoch'))
