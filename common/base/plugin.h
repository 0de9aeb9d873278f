/* Shared objects that a program opens only when it needs them: libweft-cuda.so, libweft-mpi.so. */
#ifndef WEFT_COMMON_BASE_PLUGIN_H
#define WEFT_COMMON_BASE_PLUGIN_H
#include <stddef.h>

/* Opens `object` (a file name, a literal): the one beside the running program (a build folder), else
 * ../lib/weft from there (an installation), else where the system's loader looks.  The first of these
 * that exists counts, whether it loads or not.  It stays loaded until the program ends.  NULL on
 * failure, with the loader's words in why[size]; *found tells whether a file was there. */
void *plugin_open(const char *object, int *found, char *why, size_t size);
#endif
