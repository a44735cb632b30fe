# A new member gets its id first. Nobody is a member who does not come back with it; the rebalance waits for it a while.
join a require protocols=range:a session=10s
  a: MEMBER_ID_REQUIRED a1
join b require protocols=range:b session=10s
  b: MEMBER_ID_REQUIRED b2
describe
  g Empty generation 0, 
join a
  PreparingRebalance
wait 9s
join b
  store generation 1 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:a b2:b
  b: is b2 in generation 1, range, leader a1
sync a assign=a:x,b:y
  a: synced range "x"
  Stable
sync b
  b: synced range "y"
# c never comes back: its id holds the next rebalance up for its session timeout.
join c require protocols=range:c session=10s
  c: MEMBER_ID_REQUIRED c5
join a
  PreparingRebalance
join b
wait 6s
wait 4s
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 2, range, leader a1 a1:a b2:b
  b: is b2 in generation 2, range, leader a1
join c
  c: UNKNOWN_MEMBER_ID
join d require protocols=range:d session=10s
  d: MEMBER_ID_REQUIRED d9
leave d
  d9: left
join d
  d: UNKNOWN_MEMBER_ID
join e require protocols=range:e newid=a1
  e: INVALID_REQUEST (the new member id is empty or taken; draw another one)
