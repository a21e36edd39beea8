/* driver: what a target of driver.c or of libFuzzer defines. */
#ifndef TARN_TESTS_DRIVER_H
#define TARN_TESTS_DRIVER_H
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
