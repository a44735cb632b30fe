# A static member that does not join is kept, and what it may be reading is not given to others.
join a instance=one topics=t strategy=range counts=t:2 session=100s rebalance=20s
  store generation 1 of 1, range
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-1
  Stable
join b instance=two topics=t strategy=range session=100s rebalance=20s
  PreparingRebalance
wait 20s
  store generation 2 of 2, range
  CompletingRebalance
stored
  b: is b2 in generation 2, has nothing, withheld
  Stable
# The first one comes to know, and joins.
beat a
  a: ILLEGAL_GENERATION
join a
  PreparingRebalance
beat b
  b: REBALANCE_IN_PROGRESS
wait 5s
join b
  store generation 3 of 2, range
  CompletingRebalance
stored
  a: is a1 in generation 3, has t:0
  b: is b2 in generation 3, has t:1
  Stable
