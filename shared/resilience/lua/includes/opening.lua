-- open_circuit: opens it, longer each time in a row. `how` holds, from `at` on: first open time ms, longest open time ms, share
-- taken off it (thousandths), quiet ms, worker, reason. `least`: openings in a row that the worker counted itself.
local function open_circuit(key, index, channel, name, c, least, how, at)
  local in_a_row = 0
  if c.state == 'open' or (c.state == 'closed' and now - c.changed_at < tonumber(how[at + 3])) then in_a_row = c.openings end
  c.openings = math.max(in_a_row + 1, least)
  local open_ms = math.min(tonumber(how[at + 1]), tonumber(how[at]) * 2 ^ math.min(c.openings - 1, 63))
  c.open_until = now + math.floor(open_ms * (1000 - tonumber(how[at + 2])) / 1000)
  c.state, c.worker, c.reason, c.forced = 'open', how[at + 4], how[at + 5], ''
  change(key, index, channel, name, c)
end
