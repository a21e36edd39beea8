/* cover: counts of what happened, so that a run shows which situations it has been in.
 *
 * One table per process; the runner points it at memory shared between its children.
 */
#ifndef TARN_TESTS_COVER_H
#define TARN_TESTS_COVER_H
#include <stdint.h>
#include <stdio.h>

#define COVER_LIST(X)                                                    \
	X(SEEDS, "seeds")                                                \
	X(OPS, "operations")                                             \
	X(READS_CHECKED, "reads compared")                               \
	X(CRASHES, "crashes")                                            \
	X(CRASH_IN_IMPORT, "crashes during import")                      \
	X(CRASH_IN_VERIFY, "crashes during verification")                \
	X(CRASH_LOSE_ALL, "power cuts that lost every cache")            \
	X(WRITE_LOST_AT_CRASH, "cached writes lost at a crash")          \
	X(WRITE_KEPT_AT_CRASH, "cached writes kept at a crash")          \
	X(WRITE_TORN, "writes torn at a crash")                          \
	X(WRITE_IN_FLIGHT, "writes in flight at a crash")                \
	X(OPS_LOST, "unsynced operations lost at a crash")               \
	X(OPS_KEPT, "unsynced operations kept at a crash")               \
	X(LOG_REPLAYS, "imports that replayed the intent log")           \
	X(IMPORTS, "imports")                                            \
	X(IMPORT_DEGRADED, "imports with a device missing")              \
	X(CLEAN_EXPORTS, "clean exports")                                \
	X(COMMITS, "commits asked for")                                  \
	X(SYNCS, "syncs")                                                \
	X(ENOSPC, "operations refused with ENOSPC")                      \
	X(FILLED, "pools filled to the last block")                      \
	X(SPACE_BACK, "pools emptied and used again")                    \
	X(DEV_DEATHS, "devices that died")                               \
	X(DEV_OFFLINE, "devices taken offline")                          \
	X(DEV_HANGS, "devices that hung")                                \
	X(DEV_RETURNS, "devices that returned")                          \
	X(DEV_OLD_CONTENT, "devices present with old content at import") \
	X(RESYNCS, "resyncs completed")                                  \
	X(SECOND_DEATH, "other device lost after a resync")              \
	X(READ_ERRORS, "read errors injected")                           \
	X(WRITE_ERRORS, "write errors injected")                         \
	X(FLUSH_ERRORS, "flush errors injected")                         \
	X(ROT, "blocks rotten")                                          \
	X(LOST_WRITES, "writes acknowledged and dropped")                \
	X(MISDIRECTED, "writes misdirected")                             \
	X(REPAIRS, "blocks repaired by the pool")                        \
	X(DATA_LOST_OK, "reads refused on copies=1 volumes")             \
	X(VOL_CREATED, "volumes created")                                \
	X(VOL_DESTROYED, "volumes destroyed")                            \
	X(VOL_RESIZED, "volumes resized")                                \
	X(ITEM_CHANGES, "item changes")                                  \
	X(CHECKS, "pool checks")                                         \
	X(PUNCHES, "discards of volumes")                                \
	X(CLONES, "clones within and between volumes")                   \
	X(SNAPS_TAKEN, "snapshots taken")                                \
	X(SNAPS_COMPARED, "snapshots compared")                          \
	X(DISCARDS, "discards of devices")                               \
	X(REFUSED, "commands refused cleanly")                           \
	X(VOL_TRASHED, "volumes thrown away")                            \
	X(VOL_RESTORED, "volumes restored")                              \
	X(TRASH_EMPTIED, "volumes destroyed in the trash")               \
	X(TRASH_EXPIRED, "volumes that left the trash by time")          \
	X(TRASH_PRESSURE, "volumes that left the trash for space")       \
	X(VOL_CONVERTED, "copies= changed")                              \
	X(VOL_RENAMED, "volumes renamed")                                \
	X(RESERVATIONS, "reservations set")                              \
	X(PROPERTIES, "other properties set")                            \
	X(ADDS, "devices added")                                         \
	X(REMOVALS, "removals begun")                                    \
	X(REMOVALS_OF_DEAD, "removals of a failed device")               \
	X(REMOVED, "devices that left the pool")                         \
	X(REMOVE_CANCELS, "removals and shrinks cancelled")              \
	X(REPLACES, "devices replaced")                                  \
	X(SHRINKS, "shrinks begun")                                      \
	X(SHRUNK, "devices shrunk and cut off")                          \
	X(SPARES_ADDED, "spares added")                                  \
	X(SPARES_MADE, "members made spares")                            \
	X(TAKEOVERS, "spares that took over")                            \
	X(TAKEN_FAILED, "of them from devices with errors")              \
	X(TAKEN_VANISHED, "of them from devices that were not there")    \
	X(TAKEN_LATER, "of them from devices lost before a restart")     \
	X(TAKEN_REFUSED, "devices refused for a spare has their place")  \
	X(TAKEN_LET_IN, "devices let in to give away only copies")       \
	X(CRASH_REBUILDING, "crashes while a spare was filled")          \
	X(DEV_CLASSES, "classes of devices set")                         \
	X(VOL_CLASSES, "classes of volumes set")                         \
	X(CLASS_CHECKED, "volumes checked to lie on their class")        \
	X(GROWS, "devices grown")                                        \
	X(REBALANCES, "rebalances begun")                                \
	X(SCRUBS, "scrubs begun")                                        \
	X(SCRUBS_DONE, "scrubs completed")                               \
	X(TRIMS, "trims begun")                                          \
	X(NOT_MEMBER, "imports handed a removed device")                 \
	X(CRASH_MOVING, "crashes while a chunk moved")                   \
	X(CRASH_CONVERTING, "crashes while a volume converted")          \
	X(CLOCK_JUMPS, "clock jumps in operation")                       \
	X(SLOW, "devices slow for a while")                              \
	X(BLIPS, "devices that lost their cache and said nothing")       \
	X(SUBSET_CUTS, "power cuts that devices felt differently")       \
	X(NOMEM, "allocations failed")                                   \
	X(SUSPENDED, "pools suspended for want of memory")               \
	X(FS_OPS, "file system operations")                              \
	X(FS_VERIFIED, "file systems compared")                          \
	X(RELAPSES, "devices that failed again during their resync")     \
	X(RESERVED_USED, "reservations used on a full pool")             \
	X(CHECK_GIVEN_UP, "checks given up on a full pool")              \
	X(GIVEN_UP, "removals or shrinks that found no room")            \
	X(NOT_REDUNDANT, "heals that lacked room for every copy")

enum cover_id {
#define COVER_ENUM(id, text) COVER_##id,
	COVER_LIST(COVER_ENUM)
#undef COVER_ENUM
		COVER_MAX
};

struct cover {
	uint64_t n[COVER_MAX];
};
extern struct cover *cover;

static inline void cover_add(enum cover_id id, uint64_t n)
{
	__atomic_fetch_add(&cover->n[id], n, __ATOMIC_RELAXED);
}
static inline void cover_hit(enum cover_id id)
{
	cover_add(id, 1);
}

/* Use memory shared with children that are forked later. */
void cover_share(void);
/* Print the table; what never happened is marked. */
void cover_print(FILE *f);
/* One line: faults by kind. */
void cover_print_faults(FILE *f);

#endif
