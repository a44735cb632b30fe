# Who does not come within the takeover delay counts as gone.
limits restored=7 expected=3
join a topics=t counts=t:4 owned=t:0-1
  PreparingRebalance
wake
  in 3s
wait 2s
join b topics=t owned=t:2
wait 1s
  store generation 8 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 8, has t:0-1
  b: is b2 in generation 8, has t:2-3
  Stable
