package embedded

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quietLogger passes warnings on. What etcd calls an error while it is being closed is none.
func quietLogger(to *slog.Logger) *zap.Logger {
	if to == nil {
		return zap.NewNop()
	}
	return zap.New(&bridge{to: to, level: zapcore.WarnLevel})
}

// bridge is a zap core that writes to slog.
type bridge struct {
	to     *slog.Logger
	level  zapcore.Level
	fields []zapcore.Field
}

func (b *bridge) Enabled(l zapcore.Level) bool { return l >= b.level }

func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{to: b.to, level: b.level, fields: append(append([]zapcore.Field(nil), b.fields...), fields...)}
}

func (b *bridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return checked.AddCore(e, b)
	}
	return checked
}

func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), b.fields...), fields...) {
		f.AddTo(encoder)
	}
	attributes := make([]any, 0, 2*len(encoder.Fields)+2)
	for k, v := range encoder.Fields {
		attributes = append(attributes, k, v)
	}
	// etcd's warnings are about its own pace; ours to see when something else is slow too.
	level := slog.LevelDebug
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelInfo
	}
	b.to.Log(context.Background(), level, "etcd: "+e.Message, attributes...)
	return nil
}

func (b *bridge) Sync() error { return nil }
