# A claim that comes while the generation is being stored was not there when that was made: another one is.
limits restored=3 expected=2
join a id=a0 topics=t counts=t:2
  PreparingRebalance
join b id=b0 topics=t
  store generation 4 of 2, cooperative-sticky
  CompletingRebalance
join a id=a0 topics=t owned=t:0-1
  a: REBALANCE_IN_PROGRESS
  PreparingRebalance
stored
  store generation 5 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a0 in generation 5, has t:0, gives up t:1, acknowledge, withheld
  b: is b0 in generation 5, has nothing, withheld
  Stable
