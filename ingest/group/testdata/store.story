# Nobody hears of a generation before it is stored. Members that come meanwhile meet in the next one.
join a topics=t counts=t:4
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
join b topics=t
  PreparingRebalance
join c topics=t
# An answer that belongs to another store counts for nothing.
stored gen=5
stored
  store generation 2 of 3, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1
  b: is b2 in generation 2, has t:2
  c: is c3 in generation 2, has t:3
  Stable
# The store is slow: after the rebalance timeout members are told to ask again, those that have no id yet are forgotten.
join d topics=t
  PreparingRebalance
join a
join b
join c
  store generation 3 of 4, cooperative-sticky
  CompletingRebalance
wait 60s
  a: COORDINATOR_NOT_AVAILABLE
  b: COORDINATOR_NOT_AVAILABLE
  c: COORDINATOR_NOT_AVAILABLE
  d: COORDINATOR_NOT_AVAILABLE
  PreparingRebalance
join a
stored
commit a
  may commit
