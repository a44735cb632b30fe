//go:build cgo

package duck

// #include <stdlib.h>
import "C"

import (
	"fmt"
	"runtime/cgo"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2/mapping"
)

// What DuckDB calls, on threads of its own. A panic must not unwind into C++: it becomes an error of the statement.

//export tidemarkBind
func tidemarkBind(p unsafe.Pointer) {
	info := mapping.BindInfo{Ptr: p}
	defer recovered(func(text string) { mapping.BindSetError(info, text) })
	if err := unboxed[*sources](mapping.BindGetExtraInfo(info)).bind(info); err != nil {
		mapping.BindSetError(info, err.Error())
	}
}

//export tidemarkInit
func tidemarkInit(p unsafe.Pointer) {
	info := mapping.InitInfo{Ptr: p}
	defer recovered(func(text string) { mapping.InitSetError(info, text) })
	if err := unboxed[*sources](mapping.InitGetExtraInfo(info)).init(info); err != nil {
		mapping.InitSetError(info, err.Error())
	}
}

//export tidemarkScan
func tidemarkScan(p, output unsafe.Pointer) {
	info := mapping.FunctionInfo{Ptr: p}
	defer recovered(func(text string) { mapping.FunctionSetError(info, text) })
	if err := unboxed[*tableScan](mapping.FunctionGetInitData(info)).fill(mapping.DataChunk{Ptr: output}); err != nil {
		mapping.FunctionSetError(info, err.Error())
	}
}

//export tidemarkFree
func tidemarkFree(p unsafe.Pointer) {
	(*(*cgo.Handle)(p)).Delete()
	C.free(p)
}

func recovered(fail func(text string)) {
	if cause := recover(); cause != nil {
		fail(fmt.Sprintf("a bug in the table function: %v", cause))
	}
}
