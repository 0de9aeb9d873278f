# No kernel begins to spill, grows by more than 8 registers or has fewer tensor-core instructions in
# its loop (tests/bench/cuda-report.json).
. tests/cli/lib.sh
NVCC=${NVCC:-nvcc}
golden=tests/bench/cuda-report.json
report=$B/tests/cuda/main_report
triples() {
    for c in build/cubin/sm_80/*.cubin; do echo "sm_80 $c ${c%.cubin}.txt"; done
    for c in build/cubin/sm_90/*_90.cubin; do echo "sm_90 $c ${c%.cubin}.txt"; done
}

release=$($NVCC --version 2>/dev/null | sed -n 's/.*\(release [0-9.]*\).*/nvcc \1/p')
if [ -z "$release" ] || ! ls build/cubin/sm_80/*.cubin >/dev/null 2>&1; then
    skip "kernels compiled for sm_80 and sm_90a against the golden figures" "no CUDA compiler"
    skip "the report counts tensor-core instructions" "no CUDA compiler"
    skip "a kernel that spills fails the gate" "no CUDA compiler"
    skip "wgmma that the compiler serialised is refused" "no CUDA compiler"
else
    if grep -qF "\"$release\"" $golden; then
        runs "kernels compiled for sm_80 and sm_90a against the golden figures" 0 "$report" --check $golden $(triples)
    else
        skip "kernels compiled for sm_80 and sm_90a against the golden figures" \
            "the golden figures are another compiler's than $release"
    fi
    runs "the report prints" 0 "$report" $(triples)
    stdout_has "attention_64_forward"
    stdout_has "attention_90_forward"
    stdout_has "HGMMA |"
    # The same cubins with golden figures that allow nothing must be refused.
    sed 's/"registers": [0-9]*/"registers": 1/' $golden >"$T/strict.json"
    runs "a kernel that grew fails the gate" 1 "$report" --check "$T/strict.json" $(triples)
    stderr_has "registers, 1 before"
    sed 's/"loop": [0-9]*/"loop": 100/' $golden >"$T/short.json"
    runs "a loop that grew around its tensor-core instructions fails the gate" 1 "$report" --check "$T/short.json" \
        $(triples)
    stderr_has "in a loop of"
    { cat build/cubin/sm_90/attention_90.txt
        echo "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x"; } \
        >"$T/slow.txt"
    runs "wgmma that the compiler serialised is refused" 1 "$report" sm_90 build/cubin/sm_90/attention_90.cubin \
        "$T/slow.txt"
    head -c 1000 build/cubin/sm_80/attention_64.cubin >"$T/cut.cubin"
    runs "a truncated cubin is refused" 1 "$report" sm_80 "$T/cut.cubin" build/cubin/sm_80/attention_64.txt
fi
finish
