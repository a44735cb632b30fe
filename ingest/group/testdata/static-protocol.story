# Static members of the classic protocol.
join a instance=one protocols=range:a session=60s
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b instance=two protocols=range:b session=60s
  PreparingRebalance
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 2, range, leader a1 a1:a b2:b
  b: is b2 in generation 2, range, leader a1
sync a assign=a:x,b:y
  a: synced range "x"
  Stable
sync b
  b: synced range "y"
# The follower restarts.
forget b
join b instance=two protocols=range:b session=60s
  b: is b4 in generation 2, range, leader a1
sync b
  b: synced range "y"
# The leader restarts; it is not told that it leads, or it would assign for nothing. A newer client is told to skip that.
forget a
join a instance=one protocols=range:a session=60s
  a: is a5 in generation 2, range, leader a1
sync a
  a: synced range "x"
forget a
join a v9 instance=one protocols=range:a session=60s
  a: is a6 in generation 2, range, leader a6 a6:a b4:b skip
sync a
  a: synced range "x"
# Another protocol in common is a rebalance, and so is a restart while the leader assigns.
forget b
join b instance=two protocols=range:b,other:b session=60s
  PreparingRebalance
join a
  store generation 3 of 2, consumer/range
  CompletingRebalance
stored
  a: is a6 in generation 3, range, leader a6 a6:a b7:b
  b: is b7 in generation 3, range, leader a6
forget b
join b instance=two protocols=range:b,other:b session=60s
  PreparingRebalance
sync a assign=a:x
  a: REBALANCE_IN_PROGRESS
join a
  store generation 4 of 2, consumer/range
  CompletingRebalance
# While the generation is stored the new id takes part.
forget b
join b instance=two protocols=range:b,other:b session=60s
  b: FENCED_INSTANCE_ID
stored
  a: is a6 in generation 4, range, leader a6 a6:a b11:b
  b: is b11 in generation 4, range, leader a6
