# A call that is repeated takes the place of the first one.
join a protocols=range:a
  store generation 1 of 1, consumer/range
  CompletingRebalance
join a id=a1
  a: REBALANCE_IN_PROGRESS
stored
  a: is a1 in generation 1, range, leader a1 a1:a
join b protocols=range:b
  PreparingRebalance
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
join a
  a: REBALANCE_IN_PROGRESS
stored
  a: is a1 in generation 2, range, leader a1 a1:a b3:b
  b: is b3 in generation 2, range, leader a1
sync b
sync b
  b: REBALANCE_IN_PROGRESS
sync a assign=b:y
  a: synced range ""
  b: synced range "y"
  Stable
