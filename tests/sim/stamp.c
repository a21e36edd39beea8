#include <stdio.h>
#include <string.h>
#include "tests/sim/stamp.h"

#define MUL	    0xd6e8feb86659fd93ull
#define MUL_INVERSE 0xcfee444d8b59a89bull

/* Both ways round; 0 stays 0, so no stamp is zero (volumes count from 1). */
static uint64_t scramble(uint64_t v)
{
	v ^= v >> 32;
	v *= MUL;
	v ^= v >> 32;
	v *= MUL;
	return v ^ v >> 32;
}

static uint64_t unscramble(uint64_t v)
{
	v ^= v >> 32;
	v *= MUL_INVERSE;
	v ^= v >> 32;
	v *= MUL_INVERSE;
	return v ^ v >> 32;
}

static uint64_t word(struct stamp s, uint64_t index)
{
	if (s.style == STAMP_SECTORS || (s.style == STAMP_HALF && index % 16 > 7))
		index &= ~63ull;
	return scramble((uint64_t)s.vol << 56 | (uint64_t)(s.obj & 15) << 52 |
			(uint64_t)(s.seq & 0xfffff) << 32 | (index & 0xffffffff));
}

void stamp_fill(struct stamp s, uint64_t off, uint64_t len, uint8_t *buf)
{
	while (len) {
		uint64_t w = word(s, off / 8), skip = off % 8;
		uint64_t n = 8 - skip < len ? 8 - skip : len;
		memcpy(buf, (uint8_t *)&w + skip, n);
		buf += n;
		off += n;
		len -= n;
	}
}

bool stamp_match(struct stamp s, uint64_t off, uint64_t len, const uint8_t *buf)
{
	while (len) {
		uint64_t w = word(s, off / 8), skip = off % 8;
		uint64_t n = 8 - skip < len ? 8 - skip : len;
		if (memcmp(buf, (uint8_t *)&w + skip, n))
			return false;
		buf += n;
		off += n;
		len -= n;
	}
	return true;
}

void stamp_describe(uint64_t off, uint64_t len, const uint8_t *buf, char *out, unsigned size)
{
	uint64_t skip = (8 - off % 8) % 8, w;
	if (len < skip + 8) {
		snprintf(out, size, "%llu short bytes", (unsigned long long)len);
		return;
	}
	for (;; skip += 8) {
		memcpy(&w, buf + skip, 8);
		if (w)
			break;
		if (len < skip + 16) {
			snprintf(out, size, "zeros");
			return;
		}
	}
	uint64_t v = unscramble(w);
	snprintf(out, size, "at +%llu %016llx (as a stamp: volume %u space %u op %u offset %llu)",
		 (unsigned long long)skip, (unsigned long long)w, (unsigned)(v >> 56),
		 (unsigned)(v >> 52 & 15), (unsigned)(v >> 32 & 0xfffff),
		 (unsigned long long)(v & 0xffffffff) * 8);
}
