join a protocols=range:a
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a
join b protocols=range:b
  PreparingRebalance
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 2, range, leader a1 a1:a b2:b
  b: is b2 in generation 2, range, leader a1
sync b
resign
  b: NOT_COORDINATOR
  Dead
