package pages

// Estimate gives about how long the file of a table with so many rows will be, whose keys, values and headers have so many bytes together:
// rather more than less.
func Estimate(rows, bytes uint64) uint64 {
	if rows == 0 {
		return IndexRoot * pageBytes
	}
	const frame = 20 // of a row: lengths, rowid, types, sequence, time, and its pointer in the page
	row := bytes/rows + frame
	table := rows * row
	if perPage := (pageBytes - 8) / row; perPage > 0 {
		table = (rows/perPage + 1) * pageBytes
	} else {
		table += rows * pageBytes // what the last pages of its chain, and its leaf, leave empty
	}
	index := rows * (min(bytes/rows, maxKeyGuess) + frame)
	return table + index + (table+index)/50 + IndexRoot*pageBytes
}

// maxKeyGuess is how long keys are taken to be when rows are long: the index holds them once more.
const maxKeyGuess = 64
