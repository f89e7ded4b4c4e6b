-- probe: let one call through half-open circuits, all of those it needs or none.
-- KEYS  circuit, permit for each
-- ARGV  token, lease ms, then name, generation the worker knows for each
-- returns  1 = go, 0 = wait; then the row of each circuit
--          A circuit that turned out closed needs no permit. One that Redis has lost gets one: the worker knows better.
--@include circuit
local token, lease_ms = ARGV[1], ARGV[2]
local out, wanted = {1}, {}
for i = 1, #KEYS / 2 do
  local name, known = ARGV[1 + 2 * i], tonumber(ARGV[2 + 2 * i])
  local c, permit = read(KEYS[2 * i - 1]), KEYS[2 * i]
  if c.state ~= 'closed' or c.generation <= known then -- closed by others since: no probe
    if now < c.open_until then out[1] = 0 end -- guard: no call while open
    if redis.call('EXISTS', permit) == 1 then out[1] = 0 end -- guard: one probe at a time
    wanted[#wanted + 1] = permit
  end
  out[1 + i] = row(name, c)
end
if out[1] == 1 then
  for _, permit in ipairs(wanted) do redis.call('SET', permit, token, 'NX', 'PX', lease_ms) end
end
return out
