/* crc: CRC-32C (Castagnoli), as iSCSI (RFC 3720) and ext4 use it. Hardware-accelerated by isa-l.
 * Any thread. */
#ifndef TARN_BASE_CRC_H
#define TARN_BASE_CRC_H
#include <stddef.h>
#include <stdint.h>
/* CRC of buf continued from crc (0 to start), with the usual inversion before and after. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);
#endif
