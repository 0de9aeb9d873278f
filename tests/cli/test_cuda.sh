# On a GPU where there is one: the device's self-test, the list of operation tests, the benchmark's
# start.  Where there is none each is counted as skipped.  The benchmark's code runs on the simulated
# device everywhere.
. tests/cli/lib.sh
case $B in
*tsan) runs "one operation of the benchmark runs on sim" 0 "$B/tests/cuda/main_bench" --device sim --size toy \
    --only "width to width" ;;
*)
    runs "the benchmark runs on sim at toy size" 0 "$B/tests/cuda/main_bench" --device sim --size toy
    stdout_has "attention backward"
    stdout_has "training step, recompute block+attention"
    stdout_has "VAE decode"
    stdout_has "sampling steps"
    ;;
esac

LD_LIBRARY_PATH=$PWD/$B${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
why=
"$B/weft-infer" --selftest --device cuda >"$T/selftest" 2>"$T/why" ||
    why=$(sed -n 's/^weft-infer: error: //p' "$T/why" | head -1)
case $why in
"device 'cuda': "* | "no CUDA device"* | *"compute capability"*) ;; # there is none
*) why= ;; # it ran, and may have found faults
esac

if [ -n "$why" ]; then skip "the GPU's self-test" "$why"
else runs "the GPU's self-test" 0 "$B/weft-infer" --selftest --device cuda; fi
for source in tests/ops/test_*.c; do
    test=${source%.c}
    if [ -n "$why" ]; then skip "$test on the GPU" "$why"
    else runs "$test on the GPU" 0 env WEFT_TEST_CUDA=1 "$B/$test"; fi
done
if [ -n "$why" ]; then skip "the benchmark on the GPU" "$why"
else runs "the benchmark on the GPU" 0 "$B/tests/cuda/main_bench" --device cuda --size toy; fi
finish
