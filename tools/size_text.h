/* size_text: sizes as people write and read them: 4096, 512K, 1.5G, 8T (powers of 1024). Any
 * thread. */
#ifndef TARN_TOOLS_SIZE_TEXT_H
#define TARN_TOOLS_SIZE_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIZE_TEXT_MAX 24

/* "8G", "8GiB", "1.5T", "4096" -> bytes. -EINVAL: not a size; -ERANGE: does not fit in 63 bits. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* "8.0G", "512K", "17B"; exact: plain number of bytes. Returns buf. */
const char *size_text(char buf[SIZE_TEXT_MAX], uint64_t bytes, bool exact);

/* "90s", "30m", "24h", "7d", "90" -> seconds, at most 3650 days. -EINVAL or -ERANGE. */
int duration_parse(const char *text, uint64_t *ret_seconds);

/* Whole number in [min, max], nothing behind it. -EINVAL or -ERANGE. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_n);

#endif
