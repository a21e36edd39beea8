/* cases: what the single situations share; see cases.c. */
#ifndef TARN_TESTS_CASES_H
#define TARN_TESTS_CASES_H
#include <stdio.h>
#include <stdlib.h>
#include "pool/pool_types.h"
#include "pool/vol_types.h"
#include "tests/sim/rig.h"

#define MIB (1ull << 20)
#define CHECK(cond)                                                                         \
	do {                                                                                \
		if (!(cond)) {                                                              \
			printf("cases: %s: %s line %d: %s\n", case_now, __FILE__, __LINE__, \
			       #cond);                                                      \
			exit(1);                                                            \
		}                                                                           \
	} while (0)

extern const char *case_now; /* the name of the one that runs */

/* ---- in a coroutine ---- */
/* Create and import a pool with chunks of 1 MiB on all disks. */
void case_start(struct rig *g);
struct vol *case_volume(struct rig *g, const char *name, uint8_t copies); /* created, open */
/* Blocks whose bytes depend on `at`, of the object VOL_OBJECT_FIRST; at most 64. */
int case_write(struct vol *v, uint64_t at, unsigned n);
void case_read(struct vol *v, uint64_t at, unsigned n); /* and compare */
void case_check(struct rig *g);				/* the deep check finds nothing */

/* Change each superblock of a disk. False: its checksum is not made right again. */
typedef bool case_sb_fn(struct sb_disk *sb, void *arg);
void case_superblocks(struct rig *g, unsigned disk, case_sb_fn *change, void *arg);

/* ---- cases_import.c ---- */
void case_newer_format(void *rig);
void case_two_lives(void *rig);
void case_heartbeats(void *rig);
void case_superblock_alone(void); /* not in a coroutine */

/* ---- cases_snap.c ---- */
void case_walk_destroyed(void *rig);
void case_walk_snapshots(void *rig);
void case_full_snapshots(void *rig);
void case_dead_list_ends(void *rig);
void case_feature_everywhere(void *rig);
void case_feature_unknown(void *rig);
/* ---- cases_damage.c: in a coroutine ---- */
void case_damage_write(void *rig);
void case_damage_replay_before(void *rig);
void case_damage_replay_after(void *rig);
void case_damage_destroy(void *rig);
void case_damage_resync(void *rig);
void case_damage_scrub(void *rig);
void case_damage_mover(void *rig);

/* ---- cases_space.c ---- */
void case_commit_under_load(void *rig);
void case_squeeze_full(void *rig);
void case_convert_full(void *rig);
void case_quota_exact(void *rig);
void case_remove_and_fail(void *rig);

#endif
