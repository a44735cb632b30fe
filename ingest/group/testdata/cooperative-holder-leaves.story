# Who leaves gives up what it had.
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
leave a
  a1: left
  PreparingRebalance
join b
  store generation 3 of 1, cooperative-sticky
  CompletingRebalance
stored
  b: is b2 in generation 3, has t:0-3
  Stable
leave b
  b2: left
  Empty
describe
  g Empty generation 3, 
commit -
  may commit
