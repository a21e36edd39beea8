#include "tools/size_text.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char units[] = "KMGTPE";

/* The shift that a unit suffix ("", "K", "KB", "KiB", "B") stands for, or -1. */
static int unit_shift(const char *s)
{
	if (!*s || !strcasecmp(s, "B"))
		return 0;
	const char *u = strchr(units, toupper((unsigned char)*s));
	if (!u)
		return -1;
	if (s[1] && strcasecmp(s + 1, "B") && strcasecmp(s + 1, "iB"))
		return -1;
	return (int)(u - units + 1) * 10;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	if (!text || !isdigit((unsigned char)*text))
		return -EINVAL;
	char *end;
	errno = 0;
	uint64_t whole = strtoull(text, &end, 10);
	if (errno == ERANGE)
		return -ERANGE;

	uint64_t frac = 0, scale = 1;
	if (*end == '.') {
		end++;
		if (!isdigit((unsigned char)*end))
			return -EINVAL;
		for (; isdigit((unsigned char)*end); end++) {
			if (scale >= 1000)
				continue;
			frac = frac * 10 + (uint64_t)(*end - '0');
			scale *= 10;
		}
	}
	int shift = unit_shift(end);
	if (shift < 0 || (frac && !shift))
		return -EINVAL;
	if (whole > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	/* frac < 1000 and shift <= 60: the multiplication would overflow, so split it */
	uint64_t unit = (uint64_t)1 << shift;
	uint64_t part = unit / scale * frac + unit % scale * frac / scale;
	uint64_t bytes = (whole << shift) + part;
	if (bytes > INT64_MAX)
		return -ERANGE;
	*ret_bytes = bytes;
	return 0;
}

const char *size_text(char buf[SIZE_TEXT_MAX], uint64_t bytes, bool exact)
{
	if (exact) {
		snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64, bytes);
		return buf;
	}
	if (bytes < 1024) {
		snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 "B", bytes);
		return buf;
	}
	unsigned u = 0;
	double v = (double)bytes / 1024;
	while (v >= 1023.95 && u + 1 < sizeof(units) - 1) {
		v /= 1024;
		u++;
	}
	snprintf(buf, SIZE_TEXT_MAX, v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[u]);
	return buf;
}

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_n)
{
	if (!text || !isdigit((unsigned char)*text))
		return -EINVAL;
	char *end;
	errno = 0;
	uint64_t n = strtoull(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || n < min || n > max)
		return -ERANGE;
	*ret_n = n;
	return 0;
}

int duration_parse(const char *text, uint64_t *ret_seconds)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} times[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	char digits[24];
	uint64_t n, unit = 1;
	size_t len = strlen(text);
	if (!len || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, len + 1);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (digits[len - 1] != times[i].unit)
			continue;
		unit = times[i].seconds;
		digits[len - 1] = 0;
		break;
	}
	int r = number_parse(digits, 0, 3650ull * 86400 / unit, &n);
	if (!r)
		*ret_seconds = n * unit;
	return r;
}
