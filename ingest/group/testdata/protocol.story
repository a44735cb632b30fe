# The classic protocol: the leader assigns.
join a protocols=range:ma,roundrobin:ra
  store generation 1 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 1, range, leader a1 a1:ma
sync a assign=a:all
  a: synced range "all"
  Stable
beat a
  a: ok
commit a
  may commit
# A second member: the first one learns of it by its heartbeat, and may still commit.
join b protocols=roundrobin:rb,range:mb
  PreparingRebalance
beat a
  a: REBALANCE_IN_PROGRESS
commit a
  may commit
sync a
  a: REBALANCE_IN_PROGRESS
join a
  store generation 2 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 2, range, leader a1 a1:ma b2:mb
  b: is b2 in generation 2, range, leader a1
commit a
  REBALANCE_IN_PROGRESS
beat b
  b: ok
sync b
sync a assign=a:left,b:right,ghost:x
  a: synced range "left"
  b: synced range "right"
  Stable
beat a
  a: ok
beat b
  b: ok
commit b
  may commit
# Who syncs again gets the same again.
sync b
  b: synced range "right"
describe
  g Stable generation 2, consumer/range
  a1 (client-a at host) wants "ma" has "left"
  b2 (client-b at host) wants "mb" has "right"
# A follower that joins again with the same hears the same.
join b
  b: is b2 in generation 2, range, leader a1
# The leader that joins again wants to assign anew.
join a
  PreparingRebalance
join b
  store generation 3 of 2, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 3, range, leader a1 a1:ma b2:mb
  b: is b2 in generation 3, range, leader a1
sync a assign=a:A,b:B
  a: synced range "A"
  Stable
sync b
  b: synced range "B"
leave a
  a1: left
  PreparingRebalance
beat b
  b: REBALANCE_IN_PROGRESS
join b
  store generation 4 of 1, consumer/roundrobin
  CompletingRebalance
stored
  b: is b2 in generation 4, roundrobin, leader b2 b2:rb
sync b
  b: synced roundrobin ""
  Stable
