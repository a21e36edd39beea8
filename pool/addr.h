/* addr: a virtual pool address: (chunk id, 4 KiB block in chunk) in one word. 0 is "none". */
#ifndef TARN_POOL_ADDR_H
#define TARN_POOL_ADDR_H
#include <stdbool.h>
#include <stdint.h>

#define BLOCK_SHIFT 12
#undef BLOCK_SIZE /* linux/fs.h has one of its own, which some system headers bring in */
#define BLOCK_SIZE	4096u
#define ADDR_BLOCK_BITS 20

struct addr {
	uint64_t v;
};

static inline struct addr addr_make(uint64_t chunk_id, uint32_t block)
{
	return (struct addr){chunk_id << ADDR_BLOCK_BITS | block};
}
static inline uint64_t addr_chunk(struct addr a)
{
	return a.v >> ADDR_BLOCK_BITS;
}
static inline uint32_t addr_block(struct addr a)
{
	return (uint32_t)(a.v & ((1u << ADDR_BLOCK_BITS) - 1));
}
static inline struct addr addr_add(struct addr a, uint32_t n)
{
	return (struct addr){a.v + n};
}
static inline bool addr_eq(struct addr a, struct addr b)
{
	return a.v == b.v;
}
#define ADDR_NONE ((struct addr){0})

#endif
