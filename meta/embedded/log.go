package embedded

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge is a zap core that writes to slog what etcd has to say. Its warnings are about its own pace and setting, and go out
// as debug lines; its errors go out as warnings, except those that belong to a clean close or the first start.
type bridge struct {
	to      *slog.Logger // nil for silence
	closing *atomic.Bool // shared by all cores made from one
	fields  []zapcore.Field
}

// harmless are the errors of a start that nothing is wrong with.
var harmless = []string{
	"failed to update storage version", // a new database has none yet
}

func (b *bridge) zap() *zap.Logger {
	if b.to == nil {
		return zap.NewNop()
	}
	return zap.New(b)
}

// Enabled implements zapcore.Core.
func (b *bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{to: b.to, closing: b.closing, fields: slices.Concat(b.fields, fields)}
}

// Check implements zapcore.Core.
func (b *bridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return checked.AddCore(e, b)
	}
	return checked
}

// Write implements zapcore.Core.
func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelDebug
	if e.Level >= zapcore.ErrorLevel && !b.closing.Load() && !slices.Contains(harmless, e.Message) {
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if !b.to.Enabled(ctx, level) {
		return nil
	}
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(b.fields, fields) {
		f.AddTo(encoder)
	}
	attributes := make([]slog.Attr, 0, len(encoder.Fields)+1)
	for k, v := range encoder.Fields {
		attributes = append(attributes, slog.Any(k, v))
	}
	slices.SortFunc(attributes, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	attributes = slices.Insert(attributes, 0, slog.String("message", e.Message))
	b.to.LogAttrs(ctx, level, "etcd speaks", attributes...)
	return nil
}

// Sync implements zapcore.Core.
func (b *bridge) Sync() error { return nil }
