package pages

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"github.com/lockstep-mq/lockstep/libs/message-common/digest"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/message-common/record"
)

const (
	testSQL    = `CREATE TABLE "the ""rows"""(key TEXT PRIMARY KEY NOT NULL, value, headers TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL)`
	testName   = `the "rows"`
	testQuoted = `"the ""rows"""`
	seed       = 7
)

// written makes a file of the records.
func written(t testing.TB, records []record.Record) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(f, Table{Name: testName, SQL: testSQL})
	for i := range records {
		if err := w.Add(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != max(w.Bytes(), 3*pageBytes) {
		t.Fatalf("the file has %d bytes, the Writer said %d, %v", info.Size(), w.Bytes(), err)
	}
	return path
}

// digests reads a file back.
func digests(t testing.TB, path string, partitions uint32) ([]digest.Set, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return Digests(context.Background(), Source{File: f, Bytes: info.Size(), Root: TableRoot, Index: IndexRoot, Partitions: partitions, Seed: seed, Workers: 2})
}

func setsOf(records []record.Record, partitions uint32) []digest.Set {
	sets := make([]digest.Set, partitions)
	h := digest.NewHasher(seed)
	for i := range records {
		r := &records[i]
		sets[lane.Of(r.Key, partitions)].Add(h.Row(r.Key, uint64(r.Sequence), r.TimeMS, r.Headers, r.Value))
	}
	return sets
}

// same fails unless SQLite finds a sound database with exactly the records in it (I1), and Digests the same rows (I4).
func same(t testing.TB, path string, records []record.Record) {
	t.Helper()
	for _, partitions := range []uint32{1, 3} {
		got, err := digests(t, path, partitions)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(setsOf(records, partitions)) {
			t.Fatalf("read back as %v, %v, want %v", got, err, setsOf(records, partitions))
		}
	}
	db := database(t, path)
	defer db.Close()
	sound(t, db)
	rows, err := db.Query("SELECT rowid,key,value,headers,seq,time,typeof(key),typeof(value),typeof(headers) FROM " + testQuoted + " ORDER BY rowid")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var key, value, headers []byte
		var rowid, seq, timeMS int64
		var keyType, valueKind, headersKind string
		if err := rows.Scan(&rowid, &key, &value, &headers, &seq, &timeMS, &keyType, &valueKind, &headersKind); err != nil {
			t.Fatal(err)
		}
		r := &records[n]
		want := "blob"
		if isText(r.Value) {
			want = "text"
		}
		if !bytes.Equal(key, r.Key) || !bytes.Equal(value, r.Value) || !bytes.Equal(headers, r.Headers) || seq != int64(r.Sequence) || timeMS != r.TimeMS ||
			rowid != int64(n+1) || keyType != "text" || valueKind != want || (headersKind == "null") != (len(r.Headers) == 0) {
			t.Fatalf("row %d is %.50q %.50q %.50q %d %d (%s %s %s)", n, key, value, headers, seq, timeMS, keyType, valueKind, headersKind)
		}
	}
	if err := rows.Err(); err != nil || n != len(records) {
		t.Fatalf("%d rows of %d, %v", n, len(records), err)
	}
	indexed(t, db, records)
}

func database(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+strings.ReplaceAll(path, "#", "%23"))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func sound(t testing.TB, db *sql.DB) {
	t.Helper()
	for _, check := range []string{"integrity_check", "quick_check"} {
		var answer string
		if err := db.QueryRow("PRAGMA " + check).Scan(&answer); err != nil || answer != "ok" {
			t.Fatalf("%s: %s, %v", check, answer, err)
		}
	}
}

// indexed finds rows by key through the index, all of them or some hundreds.
func indexed(t testing.TB, db *sql.DB, records []record.Record) {
	t.Helper()
	var a, b, c any
	var plan string
	if err := db.QueryRow("EXPLAIN QUERY PLAN SELECT seq FROM "+testQuoted+" WHERE key=?", "x").Scan(&a, &b, &c, &plan); err != nil || !strings.Contains(plan, "sqlite_autoindex_") {
		t.Fatalf("the plan is %q, %v", plan, err)
	}
	find, err := db.Prepare("SELECT seq FROM " + testQuoted + " WHERE key=?")
	if err != nil {
		t.Fatal(err)
	}
	defer find.Close()
	for i := 0; i < len(records); i += 1 + len(records)/500 {
		var seq int64
		if err := find.QueryRow(string(records[i].Key)).Scan(&seq); err != nil || seq != int64(records[i].Sequence) {
			t.Fatalf("row %d is not found by its key: %d, %v", i, seq, err)
		}
	}
	if len(records) > 0 {
		if _, err := db.Exec("INSERT INTO "+testQuoted+" VALUES(?,1,NULL,1,1)", string(records[len(records)/2].Key)); err == nil {
			t.Fatal("a key was taken twice")
		}
	}
}

// rowsOf makes n rows whose sizes the functions choose.
func rowsOf(n int, key, value func(i int) []byte) []record.Record {
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{Key: key(i), Value: value(i), Sequence: lane.Sequence(i), TimeMS: 1_700_000_000_000 + int64(i)}
		if i%3 == 0 {
			records[i].Headers = record.Headers(fmt.Sprintf(`{"n":"%d"}`, i))
		}
	}
	return records
}

func numbered(i int) []byte { return fmt.Appendf(nil, "key-%08d", i) }

// long makes keys of a length that rise.
func long(size int) func(int) []byte {
	return func(i int) []byte {
		k := fmt.Appendf(nil, "%08d", i)
		return append(k, bytes.Repeat([]byte{'k'}, max(0, size-len(k)))...)[:size]
	}
}

func letters(size int) func(int) []byte {
	return func(i int) []byte {
		b := bytes.Repeat([]byte{'a'}, size)
		if size > 0 {
			b[i%size] = 'b'
		}
		return b
	}
}

func TestFewRowsAndMany(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 20, 21, 22, 23, 150, 151, 152, 153, 154, 155, 1000, 40_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			records := rowsOf(n, numbered, letters(160))
			same(t, written(t, records), records)
		})
	}
}

// TestEveryEndOfAnIndex ends the index behind every entry of a page and of the pages above, whose last cell has to move then.
func TestEveryEndOfAnIndex(t *testing.T) {
	for n := 1; n < 120; n++ {
		records := rowsOf(n, long(900), letters(3)) // 4 entries a page, 4 children a page above
		same(t, written(t, records), records)
	}
}

func TestValuesAroundTheEdgesOfPages(t *testing.T) {
	for _, edge := range []int{0, 1, minLocal, maxLocalTable, pageBytes - 4, pageBytes, maxLocalTable + pageBytes - 4, 2 * (pageBytes - 4), 100 * (pageBytes - 4), record.MaxValueBytes} {
		t.Run(fmt.Sprint(edge), func(t *testing.T) {
			var sizes []int
			for size := max(0, edge-40); size <= min(record.MaxValueBytes, edge+40); size++ {
				if edge < 100_000 || size%16 == 0 {
					sizes = append(sizes, size)
				}
			}
			records := rowsOf(len(sizes), numbered, func(i int) []byte { return letters(sizes[i])(i) })
			same(t, written(t, records), records)
		})
	}
}

func TestKeysOfEveryLength(t *testing.T) {
	records := rowsOf(record.MaxKeyBytes-7, func(i int) []byte { return long(i + 8)(i) }, letters(10))
	same(t, written(t, records), records)
}

func TestOddValues(t *testing.T) {
	values := [][]byte{{}, {0}, []byte("a\x00b"), {0xff, 0xfe}, []byte("häß€😀"), []byte("\xc3"), bytes.Repeat([]byte{0}, 5000)}
	times := []int64{0, 1, -1, 127, 128, -128, -129, 1 << 15, 1<<23 - 1, 1 << 23, -1 << 23, -1<<23 - 1, 1 << 31, 1 << 40, 1<<47 - 1, 1 << 47, -1 << 47, -1<<47 - 1, 1 << 62, -1 << 63, 1<<63 - 1}
	var records []record.Record
	for i, v := range values {
		for j, at := range times {
			records = append(records, record.Record{Key: fmt.Appendf(nil, "%d/%02d/\x00\xff%c", i, j, 0x2603), Value: v, TimeMS: at, Sequence: lane.Sequence(times[len(times)-1-j])})
		}
	}
	same(t, written(t, records), records)
}

func TestRowsMustRise(t *testing.T) {
	w := NewWriter(discard{}, Table{Name: testName, SQL: testSQL})
	for _, c := range []struct {
		key  string
		good bool
	}{{"b", true}, {"b", false}, {"a", false}} {
		if err := w.Add(&record.Record{Key: []byte(c.key)}); (err == nil) != c.good || err != nil && !errors.Is(err, fault.Malformed) {
			t.Fatalf("%s: %v", c.key, err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestAFullDiskIsTold is a file that takes no more.
func TestAFullDiskIsTold(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer f.Close()
	w := NewWriter(f, Table{Name: testName, SQL: testSQL})
	records := rowsOf(10, numbered, letters(1000))
	for i := range records {
		if err = w.Add(&records[i]); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Finish()
	}
	if err == nil {
		t.Fatal("a full disk took a database")
	}
}

// TestTheLockPageIsLeftOut begins a file just below 1 GiB; the pages before it are free.
func TestTheLockPageIsLeftOut(t *testing.T) {
	for name, records := range map[string][]record.Record{
		"leaves":   rowsOf(20_000, numbered, letters(160)),
		"overflow": rowsOf(50, numbered, letters(30_000)),
		"ends":     rowsOf(1, numbered, letters(100)),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "large.db")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			const first = lockByte/pageBytes + 1 - 20
			w := newWriter(f, Table{Name: testName, SQL: testSQL}, newSheets(f, first))
			for i := range records {
				if err := w.Add(&records[i]); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			free(t, f, IndexRoot+1, first, w.out.next-1)
			same(t, path, records)
		})
	}
}

// free makes the pages [from, until) of f free ones: trunks that name the rest.
func free(t *testing.T, f *os.File, from, until, pages uint32) {
	t.Helper()
	const perTrunk = pageBytes/4 - 8
	var header [8]byte
	be.PutUint32(header[:], from)
	be.PutUint32(header[4:], until-from)
	for at := from; at < until; at += perTrunk + 1 {
		b := make([]byte, pageBytes)
		n := min(perTrunk, until-at-1)
		if at+n+1 < until {
			be.PutUint32(b, at+n+1)
		}
		be.PutUint32(b[4:], n)
		for i := range n {
			be.PutUint32(b[8+4*i:], at+1+i)
		}
		if _, err := f.WriteAt(b, int64(at-1)*pageBytes); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(header[:], 32); err != nil {
		t.Fatal(err)
	}
	_ = f.Truncate(int64(pages) * pageBytes)
}

// TestAnyDamagedByteOfARowIsFound changes every byte of every row and entry of a file with all kinds of them.
func TestAnyDamagedByteOfARowIsFound(t *testing.T) {
	records := rowsOf(10, numbered, func(i int) []byte { return letters([]int{0, 10, 3000, 5000, 9000}[i%5])(i) })
	records[9].Key = append(records[9].Key, bytes.Repeat([]byte{'k'}, record.MaxKeyBytes-len(records[9].Key))...)
	records[7].Value = bytes.Repeat([]byte{0, 1, 2}, 100)
	path := written(t, records)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(setsOf(records, 1))
	flipped := 0
	for _, at := range rowBytes(whole) {
		was := whole[at]
		for _, now := range []byte{was ^ 1<<(at%8), 0, 0xff} {
			if now == was {
				continue
			}
			whole[at] = now
			got, err := Digests(t.Context(), Source{File: bytes.NewReader(whole), Bytes: int64(len(whole)), Root: TableRoot, Index: IndexRoot, Seed: seed})
			if err == nil && fmt.Sprint(got) == want {
				t.Fatalf("byte %d (page %d, at %d) was changed from %x to %x and not found", at, at/pageBytes+1, at%pageBytes, was, now)
			}
			flipped++
		}
		whole[at] = was
	}
	if flipped < 90_000 {
		t.Fatalf("only %d bytes were tried", flipped)
	}
}

// rowBytes lists where the bytes of rows and of index entries lie: cells of leaves and used bytes of their overflow pages.
func rowBytes(b []byte) []int {
	var at []int
	page := func(n uint32) []byte { return b[(n-1)*pageBytes : n*pageBytes] }
	for n := uint32(2); int(n) <= len(b)/pageBytes; n++ {
		p := page(n)
		maxLocal := maxLocalTable
		switch p[0] {
		case tableLeaf:
		case indexLeaf:
			maxLocal = maxLocalIndex
		default:
			continue
		}
		for i := range int(be.Uint16(p[3:])) {
			cell := int(be.Uint16(p[8+2*i:]))
			size, n1 := varint(p[cell:])
			n2 := 0 // an entry of the index has no rowid of its own
			if p[0] == tableLeaf {
				_, n2 = varint(p[cell+n1:])
			}
			local := localBytes(int(size), maxLocal)
			end := cell + n1 + n2 + local
			if local < int(size) {
				next, left := be.Uint32(p[end:]), int(size)-local
				end += 4
				for next != 0 {
					o := int(next-1) * pageBytes
					used := min(left, pageBytes-4)
					for k := range 4 + used {
						at = append(at, o+k)
					}
					left -= used
					next = be.Uint32(b[o:])
				}
			}
			for k := cell; k < end; k++ {
				at = append(at, int(n-1)*pageBytes+k)
			}
		}
	}
	return at
}

func TestDamagedTreesAreRefused(t *testing.T) {
	records := rowsOf(5000, numbered, letters(160))
	whole, err := os.ReadFile(written(t, records))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(setsOf(records, 1))
	rng := rand.New(rand.NewPCG(1, 2))
	cells := rowBytes(whole)
	for n := range 1500 {
		b := bytes.Clone(whole)
		switch n % 5 {
		case 4: // what rows and entries are made of
			b[cells[rng.IntN(len(cells))]] = byte(rng.IntN(2) * 0xff)
		case 0: // what the trees are made of
			b[(TableRoot-1+rng.IntN(2))*pageBytes+rng.IntN(200)] ^= byte(1 + rng.IntN(255))
		case 1:
			b = b[:rng.IntN(len(b))]
		case 2:
			from := rng.IntN(len(b) / pageBytes)
			copy(b[rng.IntN(len(b)/pageBytes)*pageBytes:][:pageBytes], whole[from*pageBytes:])
		case 3:
			page := 4 + rng.IntN(len(b)/pageBytes-4)
			clear(b[page*pageBytes : (page+1)*pageBytes])
		}
		got, err := Digests(t.Context(), Source{File: bytes.NewReader(b), Bytes: int64(len(b)), Root: TableRoot, Index: IndexRoot, Seed: seed, Workers: 2})
		if err == nil && fmt.Sprint(got) != want { // read, and told to be another state
			continue
		}
		if err != nil && !errors.Is(err, fault.Corrupt) {
			t.Fatalf("case %d: %v", n, err)
		}
	}
}

func FuzzRows(f *testing.F) {
	f.Add(uint64(1), uint16(100), uint16(20), uint16(200))
	f.Add(uint64(2), uint16(300), uint16(1024), uint16(60000))
	f.Fuzz(func(t *testing.T, random uint64, count, keyBytes, valueBytes uint16) {
		rng := rand.New(rand.NewPCG(random, 3))
		n := int(count) % 800
		records := rowsOf(n, func(i int) []byte { return long(8 + rng.IntN(1+int(keyBytes)%(record.MaxKeyBytes-7)))(i) }, func(i int) []byte {
			v := letters(rng.IntN(1 + int(valueBytes)))(i)
			if rng.IntN(4) == 0 {
				v = append(v, 0xff)
			}
			return v
		})
		same(t, written(t, records), records)
	})
}

func FuzzDigests(f *testing.F) {
	for _, records := range [][]record.Record{rowsOf(2, numbered, letters(100)), rowsOf(14, numbered, letters(300)), rowsOf(2, numbered, letters(5000)), rowsOf(6, long(1000), letters(1))} {
		whole, err := os.ReadFile(written(f, records))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := Digests(t.Context(), Source{File: bytes.NewReader(b), Bytes: int64(len(b)), Root: TableRoot, Index: IndexRoot, Seed: seed})
		if err != nil && !errors.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
	})
}

func TestVarints(t *testing.T) {
	for shift := range 64 {
		for _, v := range []uint64{1<<shift - 1, 1 << shift, 1<<shift + 1} {
			b := appendVarint(nil, v)
			if got, n := varint(append(b, 0x55)); got != v || n != len(b) {
				t.Fatalf("%d became %d in %d bytes of %d", v, got, n, len(b))
			}
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	records := rowsOf(100_000, numbered, letters(160))
	b.SetBytes(100_000 * 200)
	for b.Loop() {
		w := NewWriter(discard{}, Table{Name: testName, SQL: testSQL})
		for i := range records {
			if err := w.Add(&records[i]); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Finish(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkDigests(b *testing.B) {
	path := written(b, rowsOf(100_000, numbered, letters(160)))
	for b.Loop() {
		if _, err := digests(b, path, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
