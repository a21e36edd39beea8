#include <limits.h>
#include <isa-l/crc.h>
#include "base/crc.h"

/* isa-l's crc32_iscsi neither inverts its seed nor its result, and takes an int length. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
	/* its prototype lacks const; it only reads */
	unsigned char *p = (unsigned char *)(uintptr_t)buf;
	crc = ~crc;
	while (len) {
		int n = len > INT_MAX ? INT_MAX : (int)len;
		crc = crc32_iscsi(p, n, crc);
		p += n;
		len -= (size_t)n;
	}
	return ~crc;
}
