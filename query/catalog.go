package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/sandbox"
)

// resolved is what the references of a statement mean: for each either a topic or a system table, by its place in one of the
// lists, which name each but once.
type resolved struct {
	topics []meta.Topic
	system []*systemTable
	// of says, by reference, which table it is: topics come first, then system tables.
	of []int
}

// maxTopics is how many topics one statement may read.
const maxTopics = 256

// resolve finds the tables of a statement.
func (s *Service) resolve(ctx context.Context, c *checked) (*resolved, error) {
	names := make([]string, 0, len(c.statement.References))
	for _, r := range c.statement.References {
		if r.Schema == "" && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	if len(names) > maxTopics {
		return nil, errorf(ReasonTooLarge, "The statement reads %d topics, and the limit is %d.", len(names), maxTopics)
	}
	found, err := eachOf(ctx, atOnce, names, func(ctx context.Context, name string) (*meta.Topic, error) { return s.topicNamed(ctx, name) })
	if err != nil {
		return nil, err
	}
	out := &resolved{of: make([]int, len(c.statement.References))}
	for i, r := range c.statement.References {
		if r.Schema != "" {
			continue
		}
		t := found[slices.Index(names, r.Name)]
		if t == nil {
			return nil, s.unknownTable(ctx, c, r)
		}
		at := slices.IndexFunc(out.topics, func(other meta.Topic) bool { return other.ID == t.ID })
		if at < 0 {
			at = len(out.topics)
			out.topics = append(out.topics, *t)
		}
		out.of[i] = at
	}
	for i, r := range c.statement.References {
		if r.Schema == "" {
			continue
		}
		t := findSystemTable(r.Name)
		if t == nil {
			return nil, s.unknownTable(ctx, c, r)
		}
		at := slices.Index(out.system, t)
		if at < 0 {
			at = len(out.system)
			out.system = append(out.system, t)
		}
		out.of[i] = len(out.topics) + at
	}
	return out, nil
}

// topicNamed finds a topic by its exact name, or else the only one whose name differs in nothing but the case of ASCII letters.
// Nil: there is none.
func (s *Service) topicNamed(ctx context.Context, name string) (*meta.Topic, error) {
	t, err := s.topics.Topic(ctx, name)
	switch {
	case err == nil:
		return &t, nil
	case errors.Is(err, meta.ErrInvalidTopic): // no topic can have the name
		return nil, nil
	case !errors.Is(err, meta.ErrUnknownTopic):
		return nil, unavailable("read topic "+name, err)
	}
	topics, err := s.topics.List(ctx)
	if err != nil {
		return nil, unavailable("list the topics", err)
	}
	var alike []meta.Topic
	for _, t := range topics {
		if strings.EqualFold(t.Name, name) { // names are ASCII
			alike = append(alike, t)
		}
	}
	switch len(alike) {
	case 0:
		return nil, nil
	case 1:
		return &alike[0], nil
	}
	return nil, errorf(ReasonUnknownTable, "There is no topic %s, and there are %s and %s: write one of them as it is, in double quotes.", name, alike[0].Name, alike[1].Name).
		with("table", name).with("next", `Write "`+alike[0].Name+`".`)
}

// unknownTable says what a name may have meant.
func (s *Service) unknownTable(ctx context.Context, c *checked, r sandbox.Reference) error {
	name, known := r.Name, s.knownTopics(ctx)
	if r.Schema != "" {
		if topic := r.Schema + "." + r.Name; slices.Contains(known, topic) {
			return c.errorAt(ReasonUnknownTable, c.whole(r.Start), quoteHint(topic), "There is no table "+shown(r.Name)+" in schema system.").with("table", topic)
		}
		known = make([]string, len(systemTables))
		for i, t := range systemTables {
			known[i] = t.name
		}
	}
	message, next := "There is no table "+shown(name)+": a table is a topic, and there is no topic of this name.", ""
	if r.Schema != "" {
		message = "There is no table " + shown(name) + " in schema system; it has " + strings.Join(known, ", ") + "."
	}
	near, quoted := sandbox.Nearest(name, known), needsQuotes(c.body, r.End, known)
	switch {
	case near != "" && r.Schema == "" && needsQuotesAlways(near):
		next = `Was "` + near + `" meant? The name needs double quotes.`
	case near != "":
		next = "Was " + near + " meant?"
	case r.Schema != "":
		next = "The system tables are system." + strings.Join(known, ", system.") + "."
	case quoted != "" && quoted != name:
		next = quoteHint(quoted)
	case len(known) == 0:
		next = "There are no topics yet: produce something first."
	default:
		next = "SHOW TABLES lists the topics."
	}
	return c.errorAt(ReasonUnknownTable, c.whole(r.Start), next, message).with("table", strings.ToValidUTF8(name, "\uFFFD"))
}

// needsQuotesAlways tells of a name that no SQL takes without quotes.
func needsQuotesAlways(name string) bool {
	return strings.ContainsAny(name, ".-") || name[0] >= '0' && name[0] <= '9'
}

// shown is a name of the user's as it stands in a message: short, on one line.
func shown(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, cut(name, 80))
}

// topicsWithColumns gives every topic and, at the same place, its columns. A topic that is deleted meanwhile is left out.
func (s *Service) topicsWithColumns(ctx context.Context) ([]meta.Topic, []*column.Schema, error) {
	listed, err := s.topics.List(ctx)
	if err != nil {
		return nil, nil, unavailable("list the topics", err)
	}
	found, err := eachOf(ctx, atOnce, listed, func(ctx context.Context, t meta.Topic) (*column.Schema, error) {
		schema, err := s.topics.Schema(ctx, t)
		if errors.Is(err, meta.ErrUnknownTopic) {
			return nil, nil
		}
		if err != nil {
			return nil, schemaError(t.Name, err)
		}
		return schema, nil
	})
	if err != nil {
		return nil, nil, err
	}
	var topics []meta.Topic
	var schemas []*column.Schema
	for i, schema := range found {
		if schema != nil {
			topics, schemas = append(topics, listed[i]), append(schemas, schema)
		}
	}
	return topics, schemas, nil
}

// listTables gives every table with its columns.
func (s *Service) listTables(ctx context.Context) (*tidemarkv1.ListTablesResponse, error) {
	topics, schemas, err := s.topicsWithColumns(ctx)
	if err != nil {
		return nil, err
	}
	out := &tidemarkv1.ListTablesResponse{}
	for i, t := range topics {
		table := &tidemarkv1.Table{Name: t.Name, TopicId: t.ID.String()}
		for _, c := range schemas[i].Columns() {
			table.Columns = append(table.Columns, &tidemarkv1.Column{Name: c.Name, Type: c.Type})
		}
		out.Tables = append(out.Tables, table)
	}
	for _, t := range systemTables {
		table := &tidemarkv1.Table{Schema: systemSchema, Name: t.name}
		for _, f := range t.schema.Fields() {
			table.Columns = append(table.Columns, &tidemarkv1.Column{Name: f.Name, Type: sqlType(f.Type)})
		}
		out.Tables = append(out.Tables, table)
	}
	return out, nil
}

// schemaError says that a topic's columns could not be read; errGone when the topic is not there any more.
func schemaError(topic string, err error) error {
	switch {
	case errors.Is(err, errCorruptSchema):
		return errorf(ReasonCorruptData, "%w", err)
	case errors.Is(err, meta.ErrUnknownTopic):
		return errGone
	}
	return unavailable(fmt.Sprintf("read the columns of topic %s", topic), err)
}

// errCorruptSchema: what etcd holds as a topic's columns means nothing to this version.
var errCorruptSchema = errors.New("the columns of the topic cannot be read")
