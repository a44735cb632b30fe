# A rebalance waits for the slowest, but no longer than its rebalance timeout. It heartbeats, and is removed all the same.
join a protocols=range:a session=30s rebalance=40s
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b protocols=range:b session=30s rebalance=5s
  PreparingRebalance
wait 20s
beat a
  a: REBALANCE_IN_PROGRESS
wait 19s
wait 1s
  store generation 2 of 1, consumer/range
  CompletingRebalance
stored
  b: is b2 in generation 2, range, leader b2 b2:b
beat a
  a: UNKNOWN_MEMBER_ID
