// Command tidemark is the Tidemark log service and its command line.
//
// One binary holds the server (dev, serve) and the tools that talk to one or to a cluster of them (topic, produce, consume,
// group, cluster, bench, …). The tools use package client and nothing else for data, so that whatever they can do, a program can.
//
// # Shape
//
// main reads the process (arguments, environment, standard streams, signals) into an app, and exits with what run
// returns. Everything else takes an app, so that tests run commands inside the test process with their own streams,
// environment and clock. Each command is one constructor in a file of its name.
//
// # Contract
//
// Data goes to standard output and everything else to standard error. Progress is shown only on a terminal, and only
// for what takes longer than two seconds. A failure is one line that says what failed and why, and one that says what
// to do next. Exit codes are in exit.go. Settings come from flags, environment, file and defaults, in this order of
// precedence: config.go.
package main
