//go:build cgo

package duck

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/duckdb/duckdb-go/v2/mapping"
)

// instance is one DuckDB in memory with one connection. It runs one statement at a time.
type instance struct {
	db      mapping.Database
	conn    mapping.Connection
	sources *sources
	used    int // statements run
}

// maxUses is how many statements an instance runs, so that whatever piles up inside does not for long.
const maxUses = 256

// newInstance opens an instance and locks it.
func newInstance(cfg Config) (_ *instance, err error) {
	settings := mapping.Config{}
	if mapping.CreateConfig(&settings) != mapping.StateSuccess {
		return nil, errors.New("DuckDB gives no configuration")
	}
	defer mapping.DestroyConfig(&settings)
	for _, s := range [][2]string{
		{"threads", strconv.Itoa(cfg.Threads)},
		{"memory_limit", strconv.FormatInt(cfg.Memory, 10) + "B"},
		{"temp_directory", cfg.TempDir},
		{"autoinstall_known_extensions", "false"},
		{"autoload_known_extensions", "false"},
		{"allow_community_extensions", "false"},
		{"allow_unsigned_extensions", "false"},
		{"enable_external_access", "false"},
	} {
		if mapping.SetConfig(settings, s[0], s[1]) != mapping.StateSuccess {
			return nil, fmt.Errorf("DuckDB has no setting %s=%s", s[0], s[1])
		}
	}
	i := &instance{}
	var text string
	if mapping.OpenExt(":memory:", &i.db, settings, &text) != mapping.StateSuccess {
		return nil, fmt.Errorf("open DuckDB: %s", text)
	}
	defer func() {
		if err != nil {
			i.close()
		}
	}()
	if mapping.Connect(i.db, &i.conn) != mapping.StateSuccess {
		return nil, errors.New("connect to DuckDB: it refuses")
	}
	for _, s := range append(bounds(),
		// Among the settings above DuckDB would take it, show it, and not obey it.
		fmt.Sprintf("SET max_temp_directory_size='%dB'", cfg.TempBytes),
		"SET TimeZone='UTC'",
		"SET errors_as_json=true",
		"SET lock_configuration=true",
	) {
		if err := i.execute(s); err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	i.sources = &sources{conn: i.conn}
	return i, i.sources.register()
}

// execute runs a statement of ours that gives nothing back.
func (i *instance) execute(sql string) error {
	var res mapping.Result
	state := mapping.Query(i.conn, sql, &res)
	defer mapping.DestroyResult(&res)
	if state != mapping.StateSuccess {
		return statementError(mapping.ResultError(&res))
	}
	return nil
}

// prepare prepares one statement. The caller destroys it.
func (i *instance) prepare(sql string) (mapping.PreparedStatement, error) {
	var statement mapping.PreparedStatement
	if strings.IndexByte(sql, 0) >= 0 {
		return statement, statementError("Parser Error: the statement has a NUL byte in it") // C's strings would end there
	}
	if mapping.Prepare(i.conn, sql, &statement) != mapping.StateSuccess {
		err := statementError(mapping.PrepareError(statement))
		mapping.DestroyPrepare(&statement)
		return statement, err
	}
	return statement, nil
}

func (i *instance) close() {
	if i.conn.Ptr != nil {
		mapping.Disconnect(&i.conn)
	}
	mapping.Close(&i.db)
}
