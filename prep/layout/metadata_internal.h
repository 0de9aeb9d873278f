/* Shared by the files about metadata: the names of its keys. */
#ifndef WEFT_PREP_LAYOUT_METADATA_INTERNAL_H
#define WEFT_PREP_LAYOUT_METADATA_INTERNAL_H
#include <jansson.h>

/* NULL-terminated. */
extern const char *const metadata_path_keys[], *const metadata_caption_keys[], *const metadata_attribute_keys[],
                                                                                   *const metadata_other_keys[];

int metadata_is_one_of(const char *key, const char *const *keys);
/* "an object", "a string", ...: for messages. */
const char *metadata_kind_of(const json_t *v);
#endif
