/* class: device classes (ssd, hdd, ...): words on devices, and the numbers under which volumes and
 * chunks keep them.
 *
 * A volume or chunk of class 0 may lie on any device; metadata always may. Another number stands in
 * the superblock's table of names, which a name enters when a volume first asks for it; from then
 * on the pool carries SB_FEATURE_CLASSES. A number goes to another name only when neither a volume
 * nor a chunk has it any more.
 *
 * A member outside its chunk's class is misplaced: a device was given another class, or what had
 * been admitted found no device of the class in service. The mover takes it back.
 */
#ifndef TARN_POOL_CLASS_H
#define TARN_POOL_CLASS_H
#include "pool/pool_types.h"

#define CLASSES_TEXT "7" /* CLASSES_MAX */
_Static_assert(CLASSES_MAX == 7, "CLASSES_TEXT");
_Static_assert(VOL_CLASS_MAX == POOL_CLASS_MAX, "class name");

/* ---- under the lock ---- */
/* The number of a name; "" is 0. -ENOENT. */
int class_find(const struct pool *p, const char *name);
/* The same, entered if need be. -ENOSPC: the table is full. */
int class_enter(struct pool *p, const char *name);
/* May data of the class lie there? */
bool class_holds(const struct pool *p, unsigned class, const struct dev *d);
/* Devices that can hold copies; spares and those being removed cannot. */
unsigned class_usable_devs(const struct pool *p, unsigned class);
/* Is some volume in need of more devices of a class than there would be without d (or with d of
 * another class)? Its name, or NULL. */
const struct vol *class_needs(const struct pool *p, const struct dev *d);
/* 0, or -EINVAL with a text when that many copies cannot be had there. */
int class_check_copies(const struct pool *p, const char *name, unsigned copies, struct err *e);
/* Does member m of c lie outside its class? */
bool class_misplaced(const struct pool *p, const struct chunk *c, const struct member *m);
/* Say, once a minute, that a volume of a class finds no room. */
void class_full_event(struct vol *v);

/* ---- superblock ---- */
int class_validate(const struct sb_disk *sb, struct err *e);
void class_from_sb(struct pool *p, const struct sb_disk *sb);
void class_to_sb(const struct pool *p, struct sb_disk *sb);

#endif
