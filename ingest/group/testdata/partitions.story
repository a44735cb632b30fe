# Topics grow, are made and deleted. What nobody reads is of no interest.
join a topics=t,new counts=t:2
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-1
  Stable
partitions other=4
partitions t=2
partitions t=3
  PreparingRebalance
join a
  store generation 2 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-2
  Stable
partitions new=1
  PreparingRebalance
join a
  store generation 3 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 3, has new:0,t:0-2
  Stable
partitions t=0
  PreparingRebalance
join a owned=t:0-2,new:0
  store generation 4 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 4, has new:0, gives up t:0-2
  Stable
# A join that knows of a larger topic is as good.
join a counts=new:2
  store generation 5 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 5, has new:0-1
  Stable
