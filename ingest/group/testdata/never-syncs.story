# The leader never syncs: it is removed after the rebalance timeout, and the others begin anew.
join a protocols=range:a session=100s rebalance=30s
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b protocols=range:b session=100s rebalance=30s
  PreparingRebalance
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 2, range, leader a1 a1:a b2:b
  b: is b2 in generation 2, range, leader a1
sync b
wait 30s
  b: REBALANCE_IN_PROGRESS
  PreparingRebalance
join b
  store generation 3 of 1, consumer/range
  CompletingRebalance
stored
  b: is b2 in generation 3, range, leader b2 b2:b
sync b assign=b:x
  b: synced range "x"
  Stable
# A follower that never syncs.
join c protocols=range:c session=100s rebalance=30s
  PreparingRebalance
join b
  store generation 4 of 2, consumer/range
  CompletingRebalance
stored
  b: is b2 in generation 4, range, leader b2 b2:b c5:c
  c: is c5 in generation 4, range, leader b2
sync b assign=b:x,c:y
  b: synced range "x"
  Stable
wait 29s
beat c
  c: ok
wait 1s
  PreparingRebalance
beat c
  c: UNKNOWN_MEMBER_ID
beat b
  b: REBALANCE_IN_PROGRESS
