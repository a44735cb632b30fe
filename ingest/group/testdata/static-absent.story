# A static member that is down keeps its place through a rebalance, until its session expires. When all are, nothing goes on.
join a instance=one protocols=range:a session=100s rebalance=10s
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a
sync a assign=a:x
  a: synced range "x"
  Stable
join b protocols=range:b session=100s rebalance=10s
  PreparingRebalance
wait 10s
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  b: is b2 in generation 2, range, leader b2 a1:a b2:b
sync b assign=b:y
  b: synced range "y"
  Stable
beat a
  a: ILLEGAL_GENERATION
join c protocols=range:c session=20s rebalance=10s
  PreparingRebalance
cancel c
leave b
  b2: left
wait 50s
wait 50s
  Empty
