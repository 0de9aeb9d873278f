/* PyTorch's files (.pt, .pth, .bin) as named tensors: today's zip archive, the stream that PyTorch
 * wrote before 1.6, and TorchScript archives.  A file is read as data: no code in it is ever run, and
 * what is neither tensor nor dictionary is refused by name (torch_pickle.h).
 *
 * Names are the keys of nested dictionaries (the attributes of TorchScript's modules), joined by dots.
 * A dictionary "state_dict", "model_state_dict" or "model" of tensors within the outermost one stands
 * for the whole; "module." in front of every name (DataParallel) is left out. */
#ifndef WEFT_COMMON_STORE_TORCH_FILE_H
#define WEFT_COMMON_STORE_TORCH_FILE_H
#include "common/store/safetensors.h"

/* The result is what safetensors.h reads, and closed by safetensors_close.  Tensors of a stream lie in
 * the mapped file, those of an archive in memory; tensors that share a storage share its bytes, and
 * those that are not contiguous are copied.  Only regular files. */
WEFT_MUST_CHECK int torch_file_open(SafeTensors **out, const char *path, Err *err);
/* A file of weights in either format, told by its first bytes. */
WEFT_MUST_CHECK int weights_file_open(SafeTensors **out, const char *path, Err *err);
/* For fuzzing and tests: bytes, which must outlive *out, as a whole file. */
WEFT_MUST_CHECK int torch_file_read(SafeTensors **out, const void *bytes, int64_t size, Err *err);
#endif
