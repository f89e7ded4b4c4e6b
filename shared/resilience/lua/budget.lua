-- budget: pay successes into retry budgets, and take retries out. A budget that has no key is full.
-- KEYS  budgets
-- ARGV  size of a budget, gain a success, gain a second (all in thousandths of a retry),
--       then successes and 1 = take a retry | 0 = do not, for each
-- returns  for each: 0 if a retry was wanted and there was none, else 1
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local size, a_success, a_second = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local RETRY = 1000
local out = {}
for i, key in ipairs(KEYS) do
  local successes, take = tonumber(ARGV[2 + 2 * i]), ARGV[3 + 2 * i] == '1'
  local f = redis.call('HMGET', key, 'v', 't')
  out[i] = 1
  if f[1] or take then
    local level = size
    if f[1] then
      level = tonumber(f[1]) + math.max(0, now - tonumber(f[2])) * a_second / 1000 + successes * a_success
      level = math.min(size, level)
    end
    if take then
      if level >= RETRY then level = level - RETRY else out[i] = 0 end
    end
    if level >= size then
      redis.call('DEL', key)
    else
      redis.call('HSET', key, 'v', math.floor(level), 't', now)
      redis.call('PEXPIRE', key, math.ceil((size - level) / a_second * 1000))
    end
  end
end
return out
