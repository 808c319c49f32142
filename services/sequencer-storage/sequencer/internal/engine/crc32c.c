// The CRC32C of RocksDB, with the processor's instruction.
//
// RocksDB chooses its CRC when it is compiled, and distributions compile for processors without SSE4.2: their library spends half of
// a catch-up and a fifth of an append in a table. A definition in the program comes before the library's (ELF interposition), so
// every checksum of RocksDB is computed here: the same function, faster. Where the processor lacks the instruction the library's own
// is called. On other architectures RocksDB chooses while it runs, and this file is empty.
#if defined(__x86_64__) && defined(__ELF__)

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// rocksdb::crc32c::Extend(unsigned int, char const*, unsigned long)
#define EXTEND _ZN7rocksdb6crc32c6ExtendEjPKcm
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

uint32_t EXTEND(uint32_t crc, const char *data, size_t n);

__attribute__((target("sse4.2"))) static uint32_t extend_sse42(uint32_t crc, const char *data, size_t n) {
	uint64_t c = crc ^ 0xffffffffu;
	for (; n >= 8; data += 8, n -= 8) {
		uint64_t word;
		memcpy(&word, data, 8);
		c = __builtin_ia32_crc32di(c, word);
	}
	for (; n > 0; data++, n--) c = __builtin_ia32_crc32qi((uint32_t)c, (uint8_t)*data);
	return (uint32_t)c ^ 0xffffffffu;
}

uint32_t EXTEND(uint32_t crc, const char *data, size_t n) {
	if (__builtin_cpu_supports("sse4.2")) return extend_sse42(crc, data, n);
	uint32_t (*library)(uint32_t, const char *, size_t) = dlsym(RTLD_NEXT, TEXT(EXTEND));
	return library(crc, data, n);
}

// lockstep_own_crc says whether RocksDB's calls arrive here.
int lockstep_own_crc(void) { return dlsym(RTLD_DEFAULT, TEXT(EXTEND)) == (void *)EXTEND; }

#else

int lockstep_own_crc(void) { return 0; }

#endif
