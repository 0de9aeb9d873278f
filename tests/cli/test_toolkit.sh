#!/bin/sh
# The simulator declares the CUDA names it needs itself: where the toolkit is installed, every
# constant is compared with the real headers. (That the functions' types agree is shown by nvcc,
# which compiles the same host code against the real headers.)
. tests/cli/lib.sh
name="the simulator's constants are the toolkit's"
nvcc=$(command -v nvcc) && include=$(dirname "$(dirname "$nvcc")")/include
if [ -z "$nvcc" ] || [ ! -f "$include/cublasLt.h" ]; then skip "$name" "no CUDA Toolkit"; finish; fi
{
    echo '#include <cublasLt.h>'
    echo '#include <cuda_runtime_api.h>'
    grep -oE '\b(cuda|CUDA|CUBLAS)[A-Za-z0-9_]+ = [0-9]+' common/ops/cuda/sim/toolkit.h |
        sed -E 's/(.*) = (.*)/static_assert((int)\1 == \2, "\1");/'
} >"$T/check.cc"
check "there are constants to compare" test "$(grep -c static_assert "$T/check.cc")" -ge 20
check "$name" c++ -std=c++17 -fsyntax-only -I"$include" "$T/check.cc"

name="NCCL's names are those of a real nccl.h"
for header in "$include/nccl.h" /usr/include/nccl.h /usr/local/include/nccl.h; do [ -f "$header" ] && break; done
if [ ! -f "$header" ]; then skip "$name" "no nccl.h"; finish; fi
{
    echo '#include <nccl.h>'
    grep -oE '\b(nccl|NCCL_)[A-Za-z0-9_]+ = [0-9]+' common/ops/cuda/nccl.h | sed -E 's/(.*) = (.*)/static_assert((int)\1 == \2, "\1");/'
    echo '#define WEFT_NCCL_REAL'
    echo '#include "common/ops/cuda/nccl.h"'
    echo 'NcclCalls calls = {ncclGetUniqueId, ncclCommInitRank, ncclCommDestroy, ncclCommAbort, ncclReduce, ncclBroadcast, ncclGetErrorString};'
} >"$T/nccl.cc"
check "there are names of NCCL to compare" test "$(grep -c static_assert "$T/nccl.cc")" -ge 6
check "$name" c++ -std=c++17 -fsyntax-only -I. -I"$include" -I"$(dirname "$header")" "$T/nccl.cc"
finish
