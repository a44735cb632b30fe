//go:build !linux

package disk

import "os"

func dataSync(f *os.File) error { return f.Sync() }

func writeOut(*os.File, int64, int64) error { return nil }

func allocate(f *os.File, size int64) error { return writeZeros(f, size) }
