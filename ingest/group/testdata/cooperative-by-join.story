# Joining with what is left acknowledges too, and the member waits for the follow-up at once.
join a topics=t counts=t:4
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-3
  Stable
join b topics=t
  PreparingRebalance
join a
  store generation 2 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1, gives up t:2-3, acknowledge, withheld
  b: is b2 in generation 2, has nothing, withheld
  Stable
# a process that claims all that it had has given up nothing
join a owned=t:0-3
  a: is a1 in generation 2, has t:0-1, gives up t:2-3, acknowledge, withheld
join a owned=t:0-1
  PreparingRebalance
beat b
  b: REBALANCE_IN_PROGRESS
join b
  store generation 3 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 3, has t:0-1
  b: is b2 in generation 3, has t:2-3
  Stable
