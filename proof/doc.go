// Package proof holds what proves Tidemark: the checker of histories, the nemesis that breaks real clusters, the seeded bugs.
package proof
