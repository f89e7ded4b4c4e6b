-- circuits: every circuit that has been open of late.
-- KEYS  index
-- ARGV  root of the circuits' keys (they carry the index's hash tag, so they share its slot)
-- returns  a row each
--@include circuit
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local out = {}
for i, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  out[i] = row(name, read(ARGV[1] .. name))
end
return out
