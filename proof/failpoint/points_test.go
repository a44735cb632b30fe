package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/proof/failpoint"
)

// module is the checkout, and importPath how its files name the package.
const (
	module     = "../.."
	importPath = "github.com/tidemark-io/tidemark/proof/failpoint"
)

// TestPointsArePassed reads the source: every point is at one place of the program or more, what the program passes is a point, and no
// two have one name.
func TestPointsArePassed(t *testing.T) {
	names := constants(t)
	var declared []string
	for _, value := range names {
		declared = append(declared, value)
	}
	slices.Sort(declared)
	if listed := slices.Sorted(slices.Values(failpoint.Points)); !slices.Equal(declared, listed) {
		t.Errorf("Points are\n%q, but the constants are\n%q", listed, declared)
	}
	if unique := slices.Compact(slices.Clone(declared)); len(unique) != len(declared) {
		t.Errorf("two points have one name: %q", declared)
	}

	passed := make(map[string][]string)
	err := filepath.WalkDir(module, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && path != module && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules"):
			return fs.SkipDir
		case entry.IsDir(), !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"):
			return nil
		}
		return findPoints(t, path, names, passed)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, point := range failpoint.Points {
		if len(passed[point]) == 0 {
			t.Errorf("no program passes the point %s", point)
		}
	}
	for point, places := range passed {
		if !slices.Contains(failpoint.Points, point) {
			t.Errorf("%q is no point, but these pass it: %q", point, places)
		}
	}
	t.Logf("%d points: %v", len(passed), slices.Sorted(maps.Keys(passed)))
}

// constants are the names of the package's constants of type string, with their values.
func constants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, declaration := range file.Decls {
		d, ok := declaration.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		for _, spec := range d.Specs {
			v := spec.(*ast.ValueSpec)
			for i, name := range v.Names {
				value, ok := text(v.Values[i])
				if !ok {
					t.Fatalf("the constant %s is no text", name.Name)
				}
				out[name.Name] = value
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("doc.go has no constants")
	}
	return out
}

// findPoints adds the calls of Here in one file, whatever the package is called there.
func findPoints(t *testing.T, path string, names map[string]string, passed map[string][]string) error {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(source), importPath) {
		return err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	local := ""
	for _, imported := range file.Imports {
		if value, ok := text(imported.Path); ok && value == importPath {
			local = "failpoint"
			if imported.Name != nil {
				local = imported.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !selects(call.Fun, local, "Here") || len(call.Args) != 1 {
			return true
		}
		place := set.Position(call.Pos()).String()
		argument, ok := call.Args[0].(*ast.SelectorExpr)
		if !ok || !selects(argument, local, argument.Sel.Name) {
			t.Errorf("%s: the point is not named by a constant of package failpoint", place)
			return true
		}
		point, known := names[argument.Sel.Name]
		if !known {
			t.Errorf("%s: there is no point %s", place, argument.Sel.Name)
		}
		passed[point] = append(passed[point], place)
		return true
	})
	return nil
}

// selects tells whether an expression is pkg.name.
func selects(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func text(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(literal.Value)
	return value, err == nil
}
