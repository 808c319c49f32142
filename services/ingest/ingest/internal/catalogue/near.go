package catalogue

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const maxNear = 3

// near gives at most maxNear of names that somebody who typed wanted may have meant, nearest first: few letters differ, or one
// begins with the other.
func near(wanted string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	low := strings.ToLower(wanted)
	allowed := max(1, len(wanted)/3)
	for _, name := range names {
		other := strings.ToLower(name)
		d := distance(low, other, allowed)
		if d > allowed && len(low) >= 3 && (strings.HasPrefix(other, low) || strings.HasPrefix(low, other)) {
			d = allowed
		}
		if d <= allowed {
			found = append(found, candidate{name, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var near []string
	for _, c := range found[:min(maxNear, len(found))] {
		near = append(near, c.name)
	}
	return near
}

// distance counts the letters to insert, delete, change or swap with their neighbour to make a from b; anything above limit may be
// given as limit + 1.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return strings.Join(q, " or ")
}
