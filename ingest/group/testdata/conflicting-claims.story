# Two members claim the same partition of a coordinator that knows of neither. The first one has it; the other gives it up.
limits restored=3 expected=2
join b topics=t counts=t:2 owned=t:0-1
  PreparingRebalance
join a topics=t owned=t:0-1
  store generation 4 of 2, cooperative-sticky
  CompletingRebalance
stored
  b: is b1 in generation 4, has t:0, gives up t:1, acknowledge, withheld
  a: is a2 in generation 4, has nothing, withheld
  Stable
beat b ack
  b: REBALANCE_IN_PROGRESS
  PreparingRebalance
join a
join b
  store generation 5 of 2, cooperative-sticky
  CompletingRebalance
stored
  b: is b1 in generation 5, has t:0
  a: is a2 in generation 5, has t:1
  Stable
