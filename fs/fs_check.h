/* fs_check: is the tree of a volume sound? Reads every item of its newest commit, which is one
 * state whatever goes on meanwhile, so a mounted tree can be checked as well.
 *
 * One pass fills a table with what each inode says of itself and what others say of it; the table
 * is judged; a second pass names the entries that looked wrong. The invariants are those of
 * fs_format.h: entries against inodes, link counts, orphans, parents, sizes of directories, data
 * within the size, attributes complete, every directory below the root.
 *
 * Repair goes in rounds, each a check and a change for every problem that has one, until nothing is
 * found:
 *
 *   a count, size, type or parent is wrong      -> what the entries say
 *   data behind the end of a file               -> the file is made longer
 *   inode without a name, directories in a loop -> linked in /lost+found as #NUMBER
 *   data, entries or attributes without inode   -> a new inode for them, then lost+found
 *   entry that names nothing, second name of a directory, name of the root -> removed
 *
 * Nothing is discarded that holds data, and nothing without a line that says so. An inode that is
 * damaged is made anew for its data and names (mode 0600, root's); what is damaged within another
 * item is said and left. Nothing is repaired while parts cannot be read, or are of a newer program.
 *
 * Threads: yields; any reactor. Memory: about 100 bytes an inode. Cost: O(items) a round.
 */
#ifndef TARN_FS_FS_CHECK_H
#define TARN_FS_FS_CHECK_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"
#include "pool/vol.h"

struct fs_check_result {
	uint64_t inodes, directories, entries;
	uint64_t problems; /* found; with repair: all rounds together */
	uint64_t repaired;
	uint64_t left; /* not repaired */
};

/* One line for each problem to out, which begins with name ("tank/home: "). 0 also when there are
 * problems. Errors: -ENOMEM, what vol_* gives; text in e. */
int fs_check(struct vol *v, const char *name, FILE *out, struct fs_check_result *ret_r,
	     struct err *e);

/* The same, and repair. Nobody else may use the volume. Each round's changes are made durable by
 * commit(arg), which is to commit the pool (a check sees commits only). -EIO, ERR_VERSION: parts
 * are not known. A volume never mounted is left alone. */
typedef int fs_check_commit_fn(void *arg);
int fs_repair(struct vol *v, const char *name, FILE *out, fs_check_commit_fn *commit, void *arg,
	      struct fs_check_result *ret_r, struct err *e);

#endif
