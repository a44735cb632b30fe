# Another node has taken the group over.
join a protocols=range:a
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b protocols=range:b
  PreparingRebalance
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
beat a
  a: REBALANCE_IN_PROGRESS
commit a
  REBALANCE_IN_PROGRESS
storefailed
  a: NOT_COORDINATOR
  b: NOT_COORDINATOR
  Dead
join a
  a: NOT_COORDINATOR
sync a
  a: NOT_COORDINATOR
beat a
  a: NOT_COORDINATOR
commit a
  NOT_COORDINATOR
commit -
  NOT_COORDINATOR
leave a
  a: NOT_COORDINATOR
delete
  : NOT_COORDINATOR
tick
