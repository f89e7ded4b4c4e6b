-- release: a probe ended without a verdict; its permits are free for the next.
-- KEYS  permits
-- ARGV  token
--@include circuit
for i = 1, #KEYS do drop_permit(KEYS[i], ARGV[1]) end
return #KEYS
