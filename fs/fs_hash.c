#include "fs/fs_hash.h"
#include "base/le.h"

static uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

struct sip {
	uint64_t a, b, c, d;
};

static void sip_round(struct sip *s)
{
	s->a += s->b;
	s->b = rotl(s->b, 13) ^ s->a;
	s->a = rotl(s->a, 32);
	s->c += s->d;
	s->d = rotl(s->d, 16) ^ s->c;
	s->a += s->d;
	s->d = rotl(s->d, 21) ^ s->a;
	s->c += s->b;
	s->b = rotl(s->b, 17) ^ s->c;
	s->c = rotl(s->c, 32);
}

static uint64_t load64(const void *p)
{
	le64 v;

	memcpy(&v, p, sizeof(v));
	return le64_get(v);
}

uint64_t fs_hash(const uint8_t key[16], const void *data, size_t len)
{
	uint64_t k0 = load64(key), k1 = load64(key + 8), m;
	struct sip s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du,
			k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
	const uint8_t *p = data;
	uint8_t tail[8] = {0};
	size_t n = len;

	for (; n >= 8; n -= 8, p += 8) {
		m = load64(p);
		s.d ^= m;
		sip_round(&s);
		s.a ^= m;
	}
	if (n)
		memcpy(tail, p, n);
	tail[7] = (uint8_t)len;
	m = load64(tail);
	s.d ^= m;
	sip_round(&s);
	s.a ^= m;
	s.c ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}
