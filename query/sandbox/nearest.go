package sandbox

// Nearest returns the known name that name was probably meant to be, or "" when none is close: ignoring case, at most a third of
// its bytes, and never more than three, may differ. It takes time in the product of the lengths, and nothing longer than 256 bytes is near to anything.
func Nearest(name string, known []string) string {
	const longest = 256
	if name == "" || len(name) > longest {
		return ""
	}
	name = fold(name)
	best, bestDistance := "", min(3, max(1, len(name)/3))+1
	for _, k := range known {
		if len(k)-len(name) >= bestDistance || len(name)-len(k) >= bestDistance {
			continue
		}
		if d := distance(name, fold(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b, by byte.
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

// fold makes ASCII letters small, as the engine compares names.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] >= 'A' && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
