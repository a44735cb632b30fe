# A caller that goes away gets no answer. If nobody knows the id of its member, the member is gone too.
join a protocols=range:a
  store generation 1 of 1, consumer/range
  CompletingRebalance
cancel a
  Empty
stored
join a protocols=range:a
  store generation 2 of 1, consumer/range
  CompletingRebalance
stored
  a: is a2 in generation 2, range, leader a2 a2:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b protocols=range:b
  PreparingRebalance
cancel b
beat a
  a: REBALANCE_IN_PROGRESS
join a
  store generation 3 of 1, consumer/range
  CompletingRebalance
stored
  a: is a2 in generation 3, range, leader a2 a2:a
sync a assign=a:x
  a: synced range "x"
  Stable
# a is known: it stays, and has to join again.
join b protocols=range:b
  PreparingRebalance
join a
  store generation 4 of 2, consumer/range
  CompletingRebalance
stored
  a: is a2 in generation 4, range, leader a2 a2:a b5:b
  b: is b5 in generation 4, range, leader a2
sync b
cancel b
sync a assign=a:x,b:y
  a: synced range "x"
  Stable
sync b
  b: synced range "y"
join c protocols=range:c
  PreparingRebalance
join a
cancel a
beat a
  a: REBALANCE_IN_PROGRESS
join b
join a
  store generation 5 of 3, consumer/range
  CompletingRebalance
stored
  a: is a2 in generation 5, range, leader a2 a2:a b5:b c7:c
  b: is b5 in generation 5, range, leader a2
  c: is c7 in generation 5, range, leader a2
