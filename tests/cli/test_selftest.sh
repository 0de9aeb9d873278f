# --selftest of every program, on the simulated device.
. tests/cli/lib.sh
device=sim
case $B in *tsan) device=cpu ;; esac # a simulated block takes a fifth of a second there
for program in prep cache train infer; do
    runs "weft-$program --selftest" 0 "$B/weft-$program" --selftest --device $device
    stdout_has "device $device: sound"
done
[ $device = sim ] && stdout_has "mma.m16n8k16"
runs "on compute capability 9.0" 0 env WEFT_SIM_CAPABILITY=90 "$B/weft-train" --selftest --device $device
[ $device = sim ] && stdout_has "wgmma"
for wrong in SCHEDULE=greed SEED=x STREAMS=fast CAPABILITY=75; do
    runs "WEFT_SIM_$wrong is refused" 2 env "WEFT_SIM_$wrong" "$B/weft-train" --selftest --device sim
    stderr_has "WEFT_SIM_${wrong%%=*} is '${wrong#*=}', expected"
done
runs "a misspelt option is refused" 2 "$B/weft-infer" --selftest --devise sim
stderr_has "did you mean '--device'"
runs "an argument is refused" 2 "$B/weft-infer" --selftest sample
finish
