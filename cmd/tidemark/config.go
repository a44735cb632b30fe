package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const envPrefix = "TIDEMARK_"

// settingRegistry knows every flag that is a setting, that is, one that environment and file may give as well.
//
// A setting has one name: the flag --data-dir is TIDEMARK_DATA_DIR in the environment and data-dir in the YAML file.
// Commands declare flags as usual, and then register those that are settings; before a command runs, apply writes into
// the flags that were not given what environment or file say. So commands read plain variables, whatever the source.
type settingRegistry struct {
	all []setting
}

// setting is one registered flag. The same name may be registered by several commands, with defaults of their own.
type setting struct {
	cmd  *cobra.Command
	flag *pflag.Flag
}

// register makes the named flags of cmd settings. flags is the set in which they were declared.
func (r *settingRegistry) register(cmd *cobra.Command, flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		if f == nil {
			panic("register: no flag --" + name)
		}
		f.Usage += " (" + envName(name) + ")"
		r.all = append(r.all, setting{cmd: cmd, flag: f})
	}
}

// names returns the name of every setting once, sorted.
func (r *settingRegistry) names() []string {
	var names []string
	for _, s := range r.all {
		names = append(names, s.flag.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func envName(setting string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// layered is what environment and file say, each value with where it was found. Flags come before it, defaults behind.
type layered struct {
	values *koanf.Koanf
	origin map[string]string
}

// keyDelimiter is a byte that no name contains: settings are flat.
const keyDelimiter = "\x00"

// load reads file, then environment over it, and refuses names that no command knows.
func (r *settingRegistry) load(configFile string, environ []string) (layered, error) {
	known := r.names()
	l := layered{values: koanf.New(keyDelimiter), origin: map[string]string{}}
	if configFile != "" {
		k := koanf.New(keyDelimiter)
		if err := k.Load(file.Provider(configFile), yaml.Parser()); err != nil {
			next := "the file holds settings as `name: value` lines; `tidemark config print` lists the names"
			if errors.Is(err, fs.ErrNotExist) {
				next = "check the path behind --config or in " + envName("config")
			}
			return l, usagef(next, "read settings from %s: %w", configFile, err)
		}
		for _, key := range sortedKeys(k.Raw()) {
			if !slices.Contains(known, key) {
				return l, unknownSetting(key, key, configFile, known)
			}
			l.origin[key] = configFile
		}
		if err := l.values.Merge(k); err != nil {
			return l, fmt.Errorf("merge settings from %s: %w", configFile, err)
		}
	}
	k := koanf.New(keyDelimiter)
	var misspelt error
	provider := env.Provider(keyDelimiter, env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "_", "-"))
			if key == "config" || value == "" {
				return "", nil // config says where the file is; and what is empty is as good as not set
			}
			if !slices.Contains(known, key) {
				// The environment is shared with others: Kubernetes, for one, defines TIDEMARK_PORT and TIDEMARK_SERVICE_HOST
				// in every pod beside a service of that name. So only what looks like a slip of the pen is refused.
				if misspelt == nil && nearest(key, known) != "" && !setByOthers(key) {
					misspelt = unknownSetting(name, key, "the environment", known)
				}
				return "", nil
			}
			l.origin[key] = name
			return key, value
		},
	})
	if err := k.Load(provider, nil); err != nil {
		return l, fmt.Errorf("read settings from the environment: %w", err)
	}
	if misspelt != nil {
		return l, misspelt
	}
	if err := l.values.Merge(k); err != nil {
		return l, fmt.Errorf("merge settings from the environment: %w", err)
	}
	return l, nil
}

// setByOthers tells the names that Kubernetes derives from a service called "tidemark".
func setByOthers(key string) bool {
	return key == "port" || strings.HasPrefix(key, "port-") || strings.HasPrefix(key, "service-")
}

func unknownSetting(shown, key, where string, known []string) error {
	next := "`tidemark config print` lists the settings there are"
	if n := nearest(key, known); n != "" {
		next = fmt.Sprintf("did you mean %s?", n)
		if shown != key {
			next = fmt.Sprintf("did you mean %s?", envName(n))
		}
	}
	return usagef(next, "unknown setting %q in %s", shown, where)
}

// apply gives the flags of cmd that were not on the command line the values of environment and file.
func (r *settingRegistry) apply(a *app, cmd *cobra.Command) error {
	l, err := r.load(a.configPath(), a.environ())
	if err != nil {
		return err
	}
	for _, s := range r.all {
		f := s.flag
		if cmd.Flags().Lookup(f.Name) != f || f.Changed || !l.values.Exists(f.Name) {
			continue
		}
		if err := setFlag(f, l.values.Get(f.Name)); err != nil {
			return usagef(f.Usage, "setting %s from %s: %w", f.Name, l.origin[f.Name], err)
		}
	}
	return nil
}

// setFlag writes a value as YAML or the environment gave it into a flag, without marking the flag as given.
func setFlag(f *pflag.Flag, value any) error {
	if items, ok := value.([]any); ok {
		texts := make([]string, len(items))
		for i, item := range items {
			texts[i] = fmt.Sprint(item)
		}
		if s, ok := f.Value.(pflag.SliceValue); ok {
			return s.Replace(texts)
		}
		return f.Value.Set(strings.Join(texts, ","))
	}
	switch value.(type) {
	case map[string]any:
		return errors.New("a single value is wanted, not a section")
	case nil:
		return errors.New("it has no value")
	}
	return f.Value.Set(fmt.Sprint(value))
}

// configPath is the settings file in force: the flag, else the environment, else none.
func (a *app) configPath() string {
	if a.configFile != "" {
		return a.configFile
	}
	for _, e := range a.environ() {
		if v, ok := strings.CutPrefix(e, envName("config")+"="); ok {
			return v
		}
	}
	return ""
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
