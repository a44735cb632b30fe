# Two processes with one instance id: the later one has it, the calls of the earlier one end.
join a instance=one protocols=range:a session=60s
  store generation 1 of 1, consumer/range
  CompletingRebalance
forget a
join a instance=one protocols=range:a session=60s
  a: FENCED_INSTANCE_ID
stored
  a: is a2 in generation 1, range, leader a2 a2:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b protocols=range:b session=60s
  PreparingRebalance
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  a: is a2 in generation 2, range, leader a2 a2:a b3:b
  b: is b3 in generation 2, range, leader a2
sync b
sync b
  b: REBALANCE_IN_PROGRESS
forget a
join a instance=one protocols=range:a session=60s
  b: REBALANCE_IN_PROGRESS
  PreparingRebalance
join b
  store generation 3 of 2, consumer/range
  CompletingRebalance
stored
  a: is a5 in generation 3, range, leader a5 a5:a b3:b
  b: is b3 in generation 3, range, leader a5
