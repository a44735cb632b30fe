// Package metatest is the contract of meta.KV as tests. Run checks a store against it; package metafake and etcd both pass.
//
// What the contract says about requests whose outcome is unknown cannot be tested from outside: that no implementation sends
// a transaction twice is tested beside each of them.
package metatest
