/* Functions that are compiled twice. */
#ifndef WEFT_COMMON_BASE_CLONES_H
#define WEFT_COMMON_BASE_CLONES_H
#include <stdint.h> /* __GLIBC__ */

/* Before a function: it is compiled for processors with AVX2 and for all others, and the loader takes the one that
 * fits.  For sums of whole numbers and moving bytes alone, where both give the same bits.  (Sanitizers start later
 * than the loader chooses.) */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define WEFT_CLONES
#endif
#endif
#if !defined(WEFT_CLONES) && defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define WEFT_CLONES __attribute__((target_clones("avx2", "default")))
#elif !defined(WEFT_CLONES)
#define WEFT_CLONES
#endif
#endif
