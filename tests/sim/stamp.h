/* stamp: contents that say who wrote them: volume, object, operation, place.
 *
 * Bytes come in 8-byte words at 8-byte aligned offsets; a word is a reversible mix of its origin,
 * so that a byte found in the wrong place tells where it belongs. Styles differ in how well they
 * compress.
 */
#ifndef TARN_TESTS_STAMP_H
#define TARN_TESTS_STAMP_H
#include <stdbool.h>
#include <stdint.h>

enum stamp_style { STAMP_RANDOM, STAMP_SECTORS, STAMP_HALF, STAMP_STYLES };

struct stamp {
	uint8_t vol; /* 1 .. 255 */
	uint8_t obj; /* 0 .. 15 */
	uint8_t style;
	uint32_t seq; /* below 2^20 */
};

void stamp_fill(struct stamp s, uint64_t off, uint64_t len, uint8_t *buf);
bool stamp_match(struct stamp s, uint64_t off, uint64_t len, const uint8_t *buf);
/* What the first whole words say about themselves, for messages. */
void stamp_describe(uint64_t off, uint64_t len, const uint8_t *buf, char *out, unsigned size);

#endif
