// One heap for C's allocator instead of eight a processor: RocksDB's buffers are freed by other threads than those that took them, and
// every heap keeps its own holes. Before any thread has a heap of its own, so when the program is loaded.
#if defined(__linux__)
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
__attribute__((constructor)) static void lockstep_one_arena(void) { mallopt(M_ARENA_MAX, 1); }
#endif
#endif
