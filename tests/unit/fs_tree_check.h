/* fs_tree_check: assert the invariants of fs_format.h over a whole fake volume. */
#ifndef TARN_TESTS_FS_TREE_CHECK_H
#define TARN_TESTS_FS_TREE_CHECK_H
#include "pool/vol.h"
void fs_tree_check(struct vol *v, unsigned orphans);
#endif
